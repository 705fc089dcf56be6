import Addressing
import LinuxNetwork
import Netlink

/// The nf_tables table that realises a plan: the semantics of Istio's in-pod rules for TCP, in one table of our own.
///
/// Connections of the pod that are captured are translated, so conntrack follows them. Connections that ztunnel makes
/// to the app are not: their packets carry a mark that the app's own sockets inherit (``NamespaceSetting``), which
/// leads the replies back to lo. So no packet of theirs is tracked, translated or routed twice.
enum RedirectionTable {
    static let name = "apus"
    /// Of the rules' meaning; stands in every rule's comment, so that rules of another version are seen as such.
    static let version = 2

    enum Chain {
        static let rawOutput = "raw-output"
        static let natPrerouting = "nat-prerouting"
        static let natOutput = "nat-output"
        static let rawPrerouting = "raw-prerouting"
    }

    /// The earliest a chain of type nat may stand, right behind conntrack. The first of them that translates a connection
    /// decides: behind other software's, such as a guest's port forwarding, what that translates would not be captured.
    /// What is not captured passes on to the others as if this table were not there.
    private static let destinationNAT: Int32 = -199

    /// The chains and rules a plan asks for in a phase. The comment is not part of it: it keeps what was before.
    static func chains(_ plan: RedirectionPlan, _ phase: RedirectionPhase) -> [Nftables.Chain] {
        let raw: Int32 = -300
        let leaving = [acceptNew]
        let base = [
            Nftables.Chain(
                Chain.rawOutput, .init(.filter, .output, priority: raw),
                rules: [fromApp, toApp(plan)] + (plan.capturesDNS ? [dnsQuestions] : [])),
            Nftables.Chain(
                Chain.natPrerouting, .init(.nat, .prerouting, priority: destinationNAT),
                rules: phase == .capturing ? guests(plan) + inbound(plan) : leaving),
            Nftables.Chain(
                Chain.natOutput, .init(.nat, .output, priority: destinationNAT),
                rules: phase == .capturing ? outbound(plan) : leaving),
        ]
        // Also while the pod leaves: what ztunnel has asked is still answered.
        guard plan.capturesDNS else { return base }
        return base + [
            Nftables.Chain(Chain.rawPrerouting, .init(.filter, .prerouting, priority: raw), rules: [dnsAnswers])
        ]
    }

    /// The app's replies to ztunnel: marked because its sockets have inherited the mark.
    private static var fromApp: Nftables.Rule {
        rule("replies to ztunnel") {
            $0.mark(.equal, Mark.inbound, mask: Mark.mask)
            $0.counter()
            $0.notrack()
            $0.accept()
        }
    }

    /// What ztunnel sends on connections it made to the app. On those it accepted from the app its own ports stand
    /// here, and they are translated. The kernel gives no connection a port on which something listens, so only ports
    /// that are listened on may stand here.
    private static func toApp(_ plan: RedirectionPlan) -> Nftables.Rule {
        let streams = [ZtunnelPort.outbound, ZtunnelPort.inboundPlaintext]
        let listening = streams + (plan.capturesDNS ? [ZtunnelPort.dns] : [])
        return rule("mark what ztunnel opens to the app") {
            $0.outputInterface("lo")
            $0.mark(.equal, Mark.ztunnel, mask: Mark.mask)
            $0.tcp()
            for port in listening { $0.sourcePort(.notEqual, port) }
            $0.counter()
            $0.notrack()
            $0.setMark(Mark.inbound, mask: Mark.mask)
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

    /// What a guest of the pod sends comes in by an interface of the pod's. Its TCP is captured as outbound; the rest is
    /// left alone. Redirected to the interface's own address, where the listener is; an interface without one drops it.
    private static func guests(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        plan.virtualInterfaces.flatMap { name in
            plan.orderedFamilies.map { family in
                rule("capture outbound of \(name)") {
                    $0.family(family)
                    $0.inputInterface(name)
                    $0.tcp()
                    $0.counter()
                    $0.redirect(to: ZtunnelPort.outbound)
                }
            }
        }
    }

    private static func inbound(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        // Without inbound capture there is nothing to exempt probes from.
        guard plan.capturesInbound else { return [] }
        let probes = exemptions(plan).map { family, port in
            rule("probes come in") {
                $0.family(family)
                $0.source(RedirectionPlan.probeAddress(family))
                $0.tcp()
                if let port { $0.destinationPort(.equal, port) }
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

    /// What probes may reach: a family and a port each, `nil` for every port.
    static func exemptions(_ plan: RedirectionPlan) -> [(IPAddress.Family, UInt16?)] {
        let ports: [UInt16?] = plan.exemptsEveryProbePort ? [nil] : plan.probePorts
        return plan.orderedFamilies.flatMap { family in ports.map { (family, $0) } }
    }

    private static func outbound(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        let probes = exemptions(plan).map { family, port in
            rule("replies to probes") {
                $0.family(family)
                $0.destination(.equal, RedirectionPlan.probeAddress(family))
                $0.tcp()
                if let port { $0.sourcePort(.equal, port) }
                $0.counter()
                $0.accept()
            }
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
                $0.unlessOwn(plan)
                $0.counter()
                $0.redirect(to: ZtunnelPort.outbound)
            }
        }
        return probes + own + ours(plan) + (plan.capturesDNS ? dnsCaptures(plan) : []) + captures
    }

    /// What the proxy sends, where it is known whose sockets are the proxy's: by mark and creator together. What cannot be
    /// told from others is captured.
    static func ours(_ plan: RedirectionPlan) -> [Nftables.Rule] {
        plan.creators.sorted { ($0.level, $0.cgroup) < ($1.level, $1.cgroup) }.map { creator in
            rule("what ztunnel sends") {
                $0.mark(.equal, Mark.ztunnel, mask: Mark.mask)
                $0.made(by: creator)
                $0.counter()
                $0.accept()
            }
        }
    }

    static func loopback(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? .loopbackV4 : .loopbackV6
    }

    static func rule(_ purpose: String, _ body: (inout RuleBuilder) -> Void) -> Nftables.Rule {
        var builder = RuleBuilder()
        body(&builder)
        return Nftables.Rule(builder.expressions, comment: "apus \(version): \(purpose)")
    }
}

extension RedirectionTable {
    /// What the table's comment keeps: the settings' values before capture began, for the day it ends. It stands in
    /// the kernel, so no death of the agent loses it.
    static func comment(_ before: [NamespaceSetting: String]) -> String {
        let values = NamespaceSetting.allCases.map { "\($0.rawValue)=\(before[$0] ?? $0.kernelDefault)" }
        return "apus \(version) " + values.joined(separator: " ")
    }

    /// What a comment keeps; `nil` when it is not one of ours or not whole.
    static func memory(_ comment: String?) -> [NamespaceSetting: String]? {
        var values: [NamespaceSetting: String] = [:]
        for word in comment?.split(separator: " ") ?? [] {
            let parts = word.split(separator: "=", omittingEmptySubsequences: false)
            guard parts.count == 2, let setting = NamespaceSetting(rawValue: String(parts[0])) else { continue }
            guard !parts[1].isEmpty, parts[1].utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
            values[setting] = String(parts[1])
        }
        return values.count == NamespaceSetting.allCases.count ? values : nil
    }
}
