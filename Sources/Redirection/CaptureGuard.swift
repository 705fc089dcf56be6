import LinuxNetwork
import Netlink

/// Keeps a pod off the network while it is not certain that its traffic is captured: all TCP but loopback's is dropped.
///
/// It is a table of its own, before all others, so that nothing that is wrong with capture's own table is wrong with it,
/// and it stays in the kernel whatever becomes of the agent.
enum CaptureGuard {
    static let table = "apus-guard"
    /// Before conntrack (-200) and before the rules of raw (-300).
    private static let priority: Int32 = -400

    static var chains: [Nftables.Chain] {
        let incoming = RedirectionTable.rule("capture is not proven: nothing comes in") {
            $0.inputInterface("lo", .notEqual)
            $0.tcp()
            $0.counter()
            $0.drop()
        }
        let outgoing = RedirectionTable.rule("capture is not proven: nothing goes out") {
            $0.outputInterface("lo", .notEqual)
            $0.tcp()
            $0.counter()
            $0.drop()
        }
        return [
            Nftables.Chain("incoming", .init(.filter, .prerouting, priority: priority), rules: [incoming]),
            Nftables.Chain("outgoing", .init(.filter, .output, priority: priority), rules: [outgoing]),
        ]
    }

    static func raise(_ nftables: inout NftablesSocket) throws(NetlinkError) {
        let present = try nftables.table(table)
        guard present?.chains != chains else { return }
        var batch = Nftables.Batch()
        if present != nil { batch.removeTable(table) }
        batch.addTable(table, comment: "apus guard")
        for chain in chains {
            batch.addChain(chain, table: table)
            for rule in chain.rules { batch.addRule(rule, chain: chain.name, table: table) }
        }
        try nftables.commit(batch)
    }

    static func lower(_ nftables: inout NftablesSocket) throws(NetlinkError) {
        guard try nftables.tables().contains(where: { $0.name == table }) else { return }
        var batch = Nftables.Batch()
        batch.removeTable(table)
        try nftables.commit(batch)
    }
}
