import Netlink
import Synchronization

/// What a plan asks of nf_tables, worked out: thousands of pods share a few plans, and making rules of one, and messages of
/// those, takes longer than the kernel takes over them.
final class PlannedRules: Sendable {
    /// The chains of capture's own table.
    let chains: [Nftables.Chain]
    /// Those of the table behind it.
    let line: [Nftables.Chain]
    /// The transaction for a namespace that has an empty table of capture's and nothing behind it.
    let fresh: Nftables.Batch

    private init(_ plan: RedirectionPlan, _ phase: RedirectionPhase) {
        chains = RedirectionTable.chains(plan, phase)
        line = SecondLine.chains(plan, phase)
        var batch = NftablesBackend.changes(
            from: Nftables.Table(RedirectionTable.name, comment: RedirectionTable.comment([:])), to: chains)
        SecondLine.change(from: nil, to: line, &batch)
        fresh = batch
    }

    /// Those that were asked for last.
    final class Shelf: Sendable {
        /// Pods differ in the ports of their probes; more plans than these are worked out again.
        private static let most = 64

        private struct Key: Hashable {
            let plan: RedirectionPlan
            let phase: RedirectionPhase
        }

        private let kept = Mutex<[Key: PlannedRules]>([:])

        func rules(_ plan: RedirectionPlan, _ phase: RedirectionPhase) -> PlannedRules {
            let key = Key(plan: plan, phase: phase)
            if let known = kept.withLock({ $0[key] }) { return known }
            let made = PlannedRules(plan, phase)
            kept.withLock { kept in
                if kept.count >= Self.most { kept = [:] }
                kept[key] = made
            }
            return made
        }
    }
}
