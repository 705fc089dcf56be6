import Addressing

/// One difference between what should hold in a namespace and what does.
public enum Drift: Hashable, Sendable {
    case tableMissing
    /// The table that drops what capture has missed.
    case secondLineMissing
    case chainMissing(String)
    /// Another type, hook, priority or policy.
    case chainDiffers(String)
    case chainUnexpected(String)
    case ruleMissing(chain: String, rule: String)
    case ruleUnexpected(chain: String, rule: String)
    case rulesReordered(chain: String)
    case routeMissing(IPAddress.Family)
    case policyRuleMissing(IPAddress.Family)
    /// A kernel parameter that capture needs has been changed.
    case settingDiffers(name: String, value: String, wanted: String)
    case loopbackDown
    /// ztunnel's port on which nobody listens, or somebody else.
    case listenerMissing(UInt16)

    /// Whether it is about ztunnel's sockets, and not about what leads to them.
    public var isListener: Bool { if case .listenerMissing = self { true } else { false } }
    /// A table of the node's own namespace.
    case hostTableMissing(String)
    case hostTableUnexpected(String)
    /// A set with other elements, or another key, than it should have, or none at all.
    case setDiffers(String)
    /// A capture program is not where it should be.
    case programMissing(interface: String, program: String)
    /// Another program in its place, or the right one with other orders.
    case programDiffers(interface: String, program: String)
    /// One of ours that the plan does not ask for.
    case programUnexpected(interface: String, program: String)

    /// A word for metrics.
    public var reason: String {
        switch self {
        case .tableMissing, .secondLineMissing: "table"
        case .chainMissing, .chainDiffers, .chainUnexpected: "chain"
        case .ruleMissing, .ruleUnexpected, .rulesReordered: "rule"
        case .routeMissing: "route"
        case .policyRuleMissing: "policy_rule"
        case .settingDiffers: "setting"
        case .loopbackDown: "loopback"
        case .listenerMissing: "listener"
        case .hostTableMissing, .hostTableUnexpected: "table"
        case .setDiffers: "set"
        case .programMissing, .programDiffers, .programUnexpected: "program"
        }
    }
}

extension Drift: CustomStringConvertible {
    public var description: String {
        switch self {
        case .tableMissing: "table inet apus is missing"
        case .secondLineMissing: "table inet \(SecondLine.table) is missing"
        case .chainMissing(let chain): "chain \(chain) is missing"
        case .chainDiffers(let chain): "chain \(chain) is not hooked as it should be"
        case .chainUnexpected(let chain): "chain \(chain) is not ours"
        case .ruleMissing(let chain, let rule): "chain \(chain) lacks the rule \"\(rule)\""
        case .ruleUnexpected(let chain, let rule): "chain \(chain) has a rule that is not ours: \"\(rule)\""
        case .rulesReordered(let chain): "the rules of chain \(chain) are out of order"
        case .routeMissing(let family): "the IP\(family) route of table 100 to lo is missing"
        case .policyRuleMissing(let family): "the IP\(family) rule fwmark 0x111/0xfff to table 100 is missing"
        case .settingDiffers(let name, let value, let wanted): "\(name) is \(value), not \(wanted)"
        case .loopbackDown: "lo is down"
        case .listenerMissing(let port): "nobody of ztunnel listens on port \(port)"
        case .hostTableMissing(let table): "table \(table) is missing"
        case .hostTableUnexpected(let table): "table \(table) is there, and should not be"
        case .setDiffers(let set): "set \(set) does not hold what it should"
        case .programMissing(let interface, let program): "program \(program) is missing on \(interface)"
        case .programUnexpected(let interface, let program):
            "program \(program) is on \(interface), and should not be"
        case .programDiffers(let interface, let program): "program \(program) on \(interface) is not as it should be"
        }
    }
}
