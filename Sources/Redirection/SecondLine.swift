import Addressing
import LinuxNetwork
import Netlink

/// Drops what should be captured and is not, in a table of its own, so that nothing passes the mesh between damage to
/// capture's own table and its repair.
///
/// It looks at the packets that open connections, behind all translation: one that was captured goes to ztunnel's port on
/// this host by then. What was open before capture began opens nothing, so it needs not be known. And it keeps conntrack
/// alive without capture's own table, so that what a captured connection still sends is told, and not sent out in clear.
enum SecondLine {
    static let table = "apus-line"
    /// Behind the kernel's place for translation of destinations (-100), whatever chain it is done in.
    private static let priority: Int32 = -50

    /// None where nothing is to be dropped.
    static func chains(_ plan: RedirectionPlan, _ phase: RedirectionPhase) -> [Nftables.Chain] {
        guard plan.dropsUncaptured, phase == .capturing else { return [] }
        return [
            Nftables.Chain("incoming", .init(.filter, .prerouting, priority: priority), rules: incoming(plan)),
            Nftables.Chain("outgoing", .init(.filter, .output, priority: priority), rules: outgoing(plan)),
        ]
    }

    // MARK: Rules, which follow those of ``RedirectionTable``

    private static func incoming(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        let guests = plan.virtualInterfaces.flatMap { name in
            [
                rule("captured from \(name)") {
                    $0.inputInterface(name)
                    $0.tcp()
                    $0.destinationPort(.equal, ZtunnelPort.outbound)
                    $0.translated()
                    $0.counter()
                    $0.accept()
                },
                rule("not captured from \(name)") {
                    $0.inputInterface(name)
                    $0.tcp()
                    $0.opens()
                    $0.counter()
                    $0.drop()
                },
            ]
        }
        guard plan.capturesInbound else { return guests }
        let probes = RedirectionTable.exemptions(plan).map { family, port in
            rule("probes come in") {
                $0.family(family)
                $0.source(RedirectionPlan.probeAddress(family))
                $0.tcp()
                // What other software makes of it is the pod's business.
                if let port { $0.connectionPort(.originalDestination, port) }
                $0.counter()
                $0.accept()
            }
        }
        let captured = rule("captured inbound") {
            $0.tcp()
            $0.destinationPort(.equal, ZtunnelPort.inboundPlaintext)
            $0.translated()
            $0.counter()
            $0.accept()
        }
        let rest = plan.orderedFamilies.map { family in
            rule("not captured inbound") {
                $0.family(family)
                $0.inputInterface("lo", .notEqual)
                $0.tcp()
                $0.opens()
                $0.destinationPort(.notEqual, ZtunnelPort.hbone)
                $0.mark(.notEqual, Mark.ztunnel, mask: Mark.mask)
                $0.counter()
                $0.drop()
            }
        }
        return guests + probes + [captured] + rest
    }

    private static func outgoing(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        let probes = RedirectionTable.exemptions(plan).map { family, port in
            rule("to where probes come from") {
                $0.family(family)
                $0.destination(.equal, RedirectionPlan.probeAddress(family))
                $0.tcp()
                if let port { $0.sourcePort(.equal, port) }
                $0.counter()
                $0.accept()
            }
        }
        let rest = plan.orderedFamilies.map { family in
            rule("not captured outbound") {
                leaves(family, plan, &$0)
                $0.opens()
                $0.counter()
                $0.drop()
            }
        }
        let ports = [ZtunnelPort.outbound] + (plan.capturesDNS ? [ZtunnelPort.dns] : [])
        let stray = plan.orderedFamilies.flatMap { family in
            ports.map { port in
                rule("captured outbound, and not translated any more") {
                    leaves(family, plan, &$0)
                    $0.translated()
                    $0.connectionPort(.replySource, port)
                    $0.counter()
                    $0.drop()
                }
            }
        }
        return probes + RedirectionTable.ours(plan) + rest + stray
    }

    /// TCP on its way out of the pod that is not ztunnel's. Translated to this host, it still has the interface it would
    /// have left by.
    private static func leaves(_ family: IPAddress.Family, _ plan: RedirectionPlan, _ builder: inout RuleBuilder) {
        builder.family(family)
        builder.outputInterface("lo", .notEqual)
        builder.destination(.notEqual, RedirectionTable.loopback(family))
        builder.tcp()
        builder.unlessOwn(plan)
    }

    private static func rule(_ purpose: String, _ body: (inout RuleBuilder) -> Void) -> Nftables.Rule {
        RedirectionTable.rule(purpose, body)
    }

    // MARK: In the kernel

    /// Adds what has to change to a transaction, so that capture and its second line change together.
    /// - Parameter present: The table as it is.
    static func change(
        from present: Nftables.Table?, to wanted: [Nftables.Chain], _ batch: inout Nftables.Batch
    ) {
        guard present?.chains ?? [] != wanted || (present == nil) != wanted.isEmpty else { return }
        if present != nil { batch.removeTable(table) }
        guard !wanted.isEmpty else { return }
        batch.addTable(table, comment: "apus second line")
        for chain in wanted {
            batch.addChain(chain, table: table)
            for rule in chain.rules { batch.addRule(rule, chain: chain.name, table: table) }
        }
    }

    static func remove(_ nftables: inout NftablesSocket, _ batch: inout Nftables.Batch) throws(NetlinkError) {
        if try nftables.tables().contains(where: { $0.name == table }) { batch.removeTable(table) }
    }

    /// - Parameter present: The table as it is.
    static func drift(_ wanted: [Nftables.Chain], _ present: Nftables.Table?) -> [Drift] {
        guard !wanted.isEmpty else { return [] }
        guard let present else { return [.secondLineMissing] }
        return NftablesBackend.drift(present, wanted)
    }
}
