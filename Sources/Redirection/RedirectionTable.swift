import Addressing
import LinuxNetwork
import Netlink

/// The nf_tables table that realises a plan: the semantics of Istio's in-pod rules for TCP, in one table of our own.
enum RedirectionTable {
    static let name = "apus"
    /// Of the rules' meaning; stands in every rule's comment, so that rules of another version are seen as such.
    static let version = 1

    enum Chain {
        static let manglePrerouting = "mangle-prerouting"
        static let mangleOutput = "mangle-output"
        static let natPrerouting = "nat-prerouting"
        static let natOutput = "nat-output"
    }

    /// The chains and rules a plan asks for in a phase. The comment is not part of it: it keeps what was before.
    static func chains(_ plan: RedirectionPlan, _ phase: RedirectionPhase) -> [Nftables.Chain] {
        let mangle: Int32 = -150
        let destinationNAT: Int32 = -100
        let leaving = [acceptNew]
        return [
            Nftables.Chain(
                Chain.manglePrerouting, .init(.filter, .prerouting, priority: mangle), rules: [rememberZtunnel]),
            // A route chain, because the reply's mark must lead it another way.
            Nftables.Chain(Chain.mangleOutput, .init(.route, .output, priority: mangle), rules: [returnReplies]),
            Nftables.Chain(
                Chain.natPrerouting, .init(.nat, .prerouting, priority: destinationNAT),
                rules: phase == .capturing ? inbound(plan) : leaving),
            Nftables.Chain(
                Chain.natOutput, .init(.nat, .output, priority: destinationNAT),
                rules: phase == .capturing ? outbound(plan) : leaving),
        ]
    }

    /// Connections that ztunnel makes to the app are remembered by the connection's mark.
    private static var rememberZtunnel: Nftables.Rule {
        rule("remember what ztunnel opened") {
            $0.mark(.equal, Mark.ztunnel, mask: Mark.mask)
            $0.counter()
            $0.setConnectionMark(Mark.inbound, mask: Mark.mask)
        }
    }

    /// The app's replies on them are addressed to the client, whose address ztunnel used; the mark leads them to lo.
    private static var returnReplies: Nftables.Rule {
        rule("lead replies back to ztunnel") {
            $0.connectionMark(Mark.inbound, mask: Mark.mask)
            $0.counter()
            $0.restoreMark()
        }
    }

    /// Keeps conntrack in the packets' way, without which the kernel stops translating what is captured.
    private static var acceptNew: Nftables.Rule {
        rule("leaving: new connections are not captured") {
            $0.newConnection()
            $0.counter()
            $0.accept()
        }
    }

    private static func inbound(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        // Without inbound capture there is nothing to exempt probes from, but the chain keeps conntrack going: the
        // replies' way back hangs on the connection marks.
        guard plan.capturesInbound else { return [] }
        let probes = plan.orderedFamilies.map { family in
            rule("probes come in") {
                $0.family(family)
                $0.source(RedirectionPlan.probeAddress(family))
                $0.tcp()
                $0.counter()
                $0.accept()
            }
        }
        let captures = plan.orderedFamilies.map { family in
            rule("capture inbound") {
                $0.family(family)
                $0.destination(.notEqual, loopback(family))
                $0.tcp()
                $0.destinationPort(.notEqual, ZtunnelPort.hbone)
                $0.mark(.notEqual, Mark.ztunnel, mask: Mark.mask)
                $0.counter()
                $0.redirect(to: ZtunnelPort.inboundPlaintext)
            }
        }
        return probes + captures
    }

    private static func outbound(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        let probes = plan.orderedFamilies.map { family in
            rule("replies to probes") {
                $0.family(family)
                $0.destination(.equal, RedirectionPlan.probeAddress(family))
                $0.tcp()
                $0.counter()
                $0.accept()
            }
        }
        let replies = rule("never capture replies") {
            $0.tcp()
            $0.mark(.equal, Mark.inbound, mask: Mark.mask)
            $0.counter()
            $0.accept()
        }
        let own = plan.orderedFamilies.map { family in
            rule("the pod's own addresses") {
                $0.family(family)
                $0.destination(.notEqual, loopback(family))
                $0.outputInterface("lo")
                $0.counter()
                $0.accept()
            }
        }
        let captures = plan.orderedFamilies.map { family in
            rule("capture outbound") {
                $0.family(family)
                $0.destination(.notEqual, loopback(family))
                $0.tcp()
                $0.mark(.notEqual, Mark.ztunnel, mask: Mark.mask)
                $0.counter()
                $0.redirect(to: ZtunnelPort.outbound)
            }
        }
        return probes + [replies] + own + captures
    }

    private static func loopback(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? .loopbackV4 : .loopbackV6
    }

    private static func rule(_ purpose: String, _ body: (inout RuleBuilder) -> Void) -> Nftables.Rule {
        var builder = RuleBuilder()
        body(&builder)
        return Nftables.Rule(builder.expressions, comment: "apus \(version): \(purpose)")
    }
}

extension RedirectionTable {
    /// What the table's comment keeps: the setting's value before capture began, for the day it ends. It stands in
    /// the kernel, so no death of the agent loses it.
    static func comment(loose: String) -> String { "apus \(version) tcp_loose=\(loose)" }

    /// The kernel's default, for a table whose memory was lost.
    static let defaultLoose = "1"

    static func loose(comment: String?) -> String? {
        guard let text = comment?.split(separator: " ").first(where: { $0.hasPrefix("tcp_loose=") }) else {
            return nil
        }
        let value = text.dropFirst("tcp_loose=".count)
        return value.isEmpty || !value.utf8.allSatisfy({ (48...57).contains($0) }) ? nil : String(value)
    }
}
