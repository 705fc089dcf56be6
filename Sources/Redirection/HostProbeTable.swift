import Addressing
import Netlink

/// The nf_tables tables that realise a ``HostProbePlan``.
enum HostProbeTable {
    static let name = "apus-host"
    static let version = 1

    /// Says between our output chain and our postrouting chain that a packet begins a probe. In other bits than those that
    /// kube-proxy (0xc000), Istio (0xfff, of which these are few), Cilium (0xf00) and Calico (0xffff0000) use on nodes;
    /// it is taken off again where it has done its work. Set by anybody else it means nothing: it is taken off first.
    static let mark: UInt32 = 0x3047
    static let markMask: UInt32 = 0x307f

    enum Chain {
        static let output = "output"
        static let postrouting = "postrouting"
        static let prerouting = "prerouting"
    }

    static func set(_ family: IPAddress.Family) -> String { family == .v4 ? "probes-v4" : "probes-v6" }

    /// What the plan asks for, by family of the table; nothing when there is nobody to probe.
    static func tables(_ plan: HostProbePlan) -> [Nftables.Family: Nftables.Table] {
        guard !plan.destinations.isEmpty else { return [:] }
        let raw: Int32 = -300
        // Behind everybody who changes destinations or marks, and before everybody who changes sources.
        let last: Int32 = 250
        let beforeSourceNAT: Int32 = 99
        let own = Nftables.Table(
            name,
            chains: [
                Nftables.Chain(
                    Chain.prerouting, .init(.filter, .prerouting, priority: raw),
                    rules: IPAddress.Family.allCases.map(arriving)),
                Nftables.Chain(Chain.output, .init(.filter, .output, priority: last), rules: output(plan)),
                Nftables.Chain(
                    Chain.postrouting, .init(.nat, .postrouting, priority: beforeSourceNAT),
                    rules: IPAddress.Family.allCases.map(becomesProbe)),
            ],
            sets: IPAddress.Family.allCases.map { elements(plan, $0) })
        // What pods on one bridge send each other does not come by the rules for IP.
        let bridged = Nftables.Table(
            name,
            chains: [
                Nftables.Chain(
                    Chain.prerouting, .init(.filter, .prerouting, priority: raw),
                    rules: IPAddress.Family.allCases.map(bridgedRule))
            ])
        return [.inet: own, .bridge: bridged]
    }

    private static func arriving(_ family: IPAddress.Family) -> Nftables.Rule {
        rule("nobody arrives as a probe") {
            $0.family(family)
            $0.source(RedirectionPlan.probeAddress(family))
            $0.counter()
            $0.drop()
        }
    }

    private static func bridgedRule(_ family: IPAddress.Family) -> Nftables.Rule {
        rule("nobody arrives as a probe") {
            $0.frame(family)
            $0.source(RedirectionPlan.probeAddress(family))
            $0.counter()
            $0.drop()
        }
    }

    private static func output(_ plan: HostProbePlan) -> [Nftables.Rule] {
        let forged = IPAddress.Family.allCases.map { family in
            rule("nobody here sends as a probe") {
                $0.family(family)
                $0.source(RedirectionPlan.probeAddress(family))
                $0.counter()
                $0.drop()
            }
        }
        let marked = rule("others' marks mean nothing") {
            $0.mark(.equal, mark, mask: markMask)
            $0.counter()
            $0.clearMark(mask: markMask)
        }
        return forged + [marked] + senders(plan)
    }

    private static func senders(_ plan: HostProbePlan) -> [Nftables.Rule] {
        switch plan.sender {
        case .anySocket:
            return IPAddress.Family.allCases.map { family in
                rule("probes begin") {
                    $0.family(family)
                    $0.destination(family, in: set(family))
                    $0.tcp()
                    $0.newConnection()
                    $0.counter()
                    $0.setMark(mark, mask: markMask)
                }
            }
        case .kubelet(nil): return []
        case .kubelet(let cgroup?):
            // In kubelet's own cgroup, not in one beneath it: pods may be there.
            let beneath = rule("sockets beneath kubelet's cgroup") {
                $0.socketCgroup(.notEqual, level: cgroup.level + 1, id: 0)
                $0.counter()
                $0.accept()
            }
            return [beneath]
                + IPAddress.Family.allCases.map { family in
                    rule("probes begin") {
                        $0.family(family)
                        $0.tcp()
                        $0.destinationAndPort(family, in: set(family))
                        $0.newConnection()
                        $0.socketCgroup(.equal, level: cgroup.level, id: cgroup.id)
                        $0.counter()
                        $0.setMark(mark, mask: markMask)
                    }
                }
        }
    }

    private static func becomesProbe(_ family: IPAddress.Family) -> Nftables.Rule {
        rule("probes leave") {
            $0.family(family)
            $0.tcp()
            $0.mark(.equal, mark, mask: markMask)
            $0.counter()
            $0.clearMark(mask: markMask)
            $0.sourceNAT(to: RedirectionPlan.probeAddress(family))
        }
    }

    private static func elements(_ plan: HostProbePlan, _ family: IPAddress.Family) -> Nftables.NamedSet {
        let address: Nftables.KeyPart = family == .v4 ? .ipv4Address : .ipv6Address
        let wanted = plan.destinations.filter { $0.key.family == family }
        guard plan.sender != .anySocket else {
            return Nftables.NamedSet(set(family), key: [address], elements: Set(wanted.keys.map(\.bytes)))
        }
        let elements = wanted.flatMap { address, ports in
            ports.map { address.bytes + [UInt8($0 >> 8), UInt8($0 & 255), 0, 0] }
        }
        return Nftables.NamedSet(set(family), key: [address, .service], elements: Set(elements))
    }

    private static func rule(_ purpose: String, _ body: (inout RuleBuilder) -> Void) -> Nftables.Rule {
        var builder = RuleBuilder()
        body(&builder)
        return Nftables.Rule(builder.expressions, comment: "apus-host \(version): \(purpose)")
    }
}
