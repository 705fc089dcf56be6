import Mesh
import Synchronization

/// Fetches certificates for the workloads of this node before their first connection, and drops those of identities
/// that have left.
final class LocalIdentities: Sendable {
    private let node: String
    private let contexts: CertificateContexts
    private let known = Mutex<[String: SPIFFEIdentity]>([:])

    init(node: String, contexts: CertificateContexts) {
        self.node = node
        self.contexts = contexts
    }

    func update(_ event: MeshStore.Event) {
        guard !event.change.localWorkloads.isEmpty else { return }
        let (come, gone) = known.withLock { known -> (Set<SPIFFEIdentity>, Set<SPIFFEIdentity>) in
            let before = Set(known.values)
            for uid in event.change.localWorkloads {
                let workload = event.state.workload(uid: uid)
                let speaks = workload.map { $0.tunnelProtocol == .hbone || $0.nativeTunnel } ?? false
                known[uid] = workload.flatMap { $0.node == node && speaks ? $0.identity : nil }
            }
            let after = Set(known.values)
            return (after.subtracting(before), before.subtracting(after))
        }
        for identity in come { contexts.prefetch(identity) }
        for identity in gone { contexts.forget(identity) }
    }
}
