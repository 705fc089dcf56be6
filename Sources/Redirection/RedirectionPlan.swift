import Addressing
import Glibc
import LinuxNetwork

/// What must hold in a pod's network namespace: a value, independent of the means that make it hold.
///
/// TCP that leaves the pod goes to ztunnel's listener on 15001, TCP that comes in goes to 15006 (HBONE on 15008
/// reaches its listener directly), and what ztunnel itself sends or receives is left alone, which it shows by the
/// marks of ``LinuxNetwork/Mark``. DNS, where it is captured, goes to 15053 over UDP and TCP. Loopback, the pod talking to its own addresses, other protocols, and the kubelet's
/// probes as Istio marks them are never captured.
public struct RedirectionPlan: Hashable, Sendable {
    /// The families the pod speaks. A family that is switched off in the pod gets no rules.
    public var families: Set<IPAddress.Family>
    /// Whether incoming plain TCP is captured; `false` for `ambient.istio.io/bypass-inbound-capture`.
    public var capturesInbound: Bool
    /// Whether DNS goes to ztunnel's proxy on 15053: `ambient.istio.io/dns-capture`, or the node's setting.
    public var capturesDNS: Bool
    /// Whether connections that were open before capture began are left as they were until they close.
    public var sparesOpenConnections: Bool
    /// Interfaces behind which guests of the pod are (`istio.io/reroute-virtual-interfaces`): the TCP that comes in by them
    /// is captured as if the pod sent it.
    public var virtualInterfaces: [String]

    public init(
        families: Set<IPAddress.Family> = [.v4, .v6], capturesInbound: Bool = true,
        capturesDNS: Bool = false, sparesOpenConnections: Bool = true, virtualInterfaces: [String] = []
    ) {
        self.families = families
        self.capturesInbound = capturesInbound
        self.capturesDNS = capturesDNS
        self.sparesOpenConnections = sparesOpenConnections
        self.virtualInterfaces = virtualInterfaces
    }

    /// The families in the order their rules stand in.
    var orderedFamilies: [IPAddress.Family] { IPAddress.Family.allCases.filter(families.contains) }

    /// The table that leads what is marked ``LinuxNetwork/Mark/inbound`` back to this host.
    public static let routeTable: UInt32 = 100
    public static let rulePriority: UInt32 = 32764

    /// The source address of the kubelet's probes on a node that rewrites it as Istio's does.
    public static func probeAddress(_ family: IPAddress.Family) -> IPAddress {
        switch family {
        case .v4: IPAddress(169, 254, 7, 127)
        case .v6: IPAddress(v6High: 0xfd16_9254_7127_1337, low: 0xffff_ffff_ffff_ffff)
        }
    }

    /// The families that are switched on in the namespace the calling thread is in.
    static func familiesHere() -> Set<IPAddress.Family> {
        // No such file: the kernel has no IPv6 at all.
        guard let text = KernelSetting.ipv6Disabled.read() else { return [.v4] }
        return text == "0" ? [.v4, .v6] : [.v4]
    }

    /// The families that are switched on in a namespace. Blocks.
    public static func families(in namespace: borrowing NetworkNamespace) throws -> Set<IPAddress.Family> {
        try namespace.run { familiesHere() }
    }
}

/// How far a namespace is in the life of its capture.
public enum RedirectionPhase: String, Hashable, Sendable {
    /// New connections are captured.
    case capturing
    /// New connections go their own way; captured ones are still translated, until they close.
    case leaving
}
