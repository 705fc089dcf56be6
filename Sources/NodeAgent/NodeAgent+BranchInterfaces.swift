import Addressing
import Redirection

/// Probes of pods that are behind a branch interface of AWS's.
extension NodeAgent {
    /// Makes the node's way to those of the probed pods hold, where the platform has such pods. Never fails: what does is
    /// logged, counted, and tried again with the next proof. Under the turn of the node's rules.
    func makeBranchRulesHold(for addresses: Set<IPAddress>) async {
        guard configuration.servesBranchInterfaces else { return }
        let (before, node) = (branchAddresses, nodeNetwork)
        do {
            let found = try await pool.run { () -> [Drift]? in
                try node.within {
                    guard BranchInterfaceRules.isPlatform() || before?.isEmpty == false else { return nil }
                    return try BranchInterfaceRules.apply(addresses)
                }
            }
            guard let found else { return }
            branchAddresses = addresses
            // After a change of who is probed, differences are no drift.
            guard before == addresses, !found.isEmpty else { return }
            log.warning(
                "the node's way to pods on branch interfaces was not as it should be; repaired",
                metadata: ["found": "\(found.map(\.description).joined(separator: "; "))"])
            for drift in found { metrics.repairs.with([drift.reason]).increment() }
        } catch {
            branchAddresses = nil
            metrics.failures.with([]).increment()
            log.warning(
                "probes may not reach pods on branch interfaces", metadata: ["error": "\(AgentError(error))"])
        }
    }
}
