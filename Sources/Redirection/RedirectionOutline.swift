import Addressing
import LinuxNetwork
import Netlink

/// What a plan means in a namespace, in the words of the tools an operator knows.
public struct RedirectionOutline: Hashable, Sendable {
    /// The table in the nft tool's language, as `nft -s list table inet apus` shows it once the plan holds; without the
    /// table's comment, which keeps what the settings were before.
    public let ruleset: String
    /// As arguments of `ip route add` and `ip -6 route add`.
    public let routes: [Entry]
    /// As arguments of `ip rule add` and `ip -6 rule add`.
    public let policyRules: [Entry]
    /// As sysctl has them, in the namespace.
    public let settings: [Setting]

    public struct Entry: Hashable, Sendable {
        public let family: IPAddress.Family
        public let text: String
    }

    public struct Setting: Hashable, Sendable {
        public let name: String
        public let value: String
    }
}

extension NftablesBackend {
    /// What ``apply(_:in:)`` makes hold, without doing it.
    public func outline(_ plan: RedirectionPlan) -> RedirectionOutline {
        let table = Nftables.Table(RedirectionTable.name, chains: RedirectionTable.chains(plan, .capturing))
        return RedirectionOutline(
            ruleset: table.text,
            routes: plan.orderedFamilies.map { family in
                let route = PolicyRouting.route(family)
                let scope = family == .v4 ? " scope host" : ""
                return .init(family: family, text: "local \(route.destination) dev lo table \(route.table)\(scope)")
            },
            policyRules: plan.orderedFamilies.map { family in
                let mark = String(Mark.inbound, radix: 16)
                let mask = String(Mark.mask, radix: 16)
                return .init(
                    family: family,
                    text: "fwmark 0x\(mark)/0x\(mask) lookup \(RedirectionPlan.routeTable) "
                        + "priority \(RedirectionPlan.rulePriority)")
            },
            settings: NamespaceSetting.allCases.compactMap { setting in
                setting.wanted(plan).map { .init(name: setting.setting.name, value: $0) }
            })
    }
}
