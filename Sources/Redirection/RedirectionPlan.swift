import Addressing
import Glibc
import LinuxNetwork

/// What must hold in a pod's network namespace: a value, independent of the means that make it hold.
///
/// TCP that leaves the pod goes to ztunnel's listener on 15001, TCP that comes in goes to 15006 (HBONE on 15008
/// reaches its listener directly), and what ztunnel itself sends or receives is left alone, which it shows by the
/// marks of ``LinuxNetwork/Mark``. DNS, where it is captured, goes to 15053 over UDP and TCP. TCP that comes in by a virtual
/// interface is a guest's on its way out, and goes to 15001. Loopback, the pod talking to its own addresses, other
/// protocols, and the kubelet's probes to ``probePorts`` are never captured.
public struct RedirectionPlan: Hashable, Sendable {
    /// The families the pod speaks. A family that is switched off in the pod gets no rules.
    public var families: Set<IPAddress.Family>
    /// Whether incoming plain TCP is captured; `false` for `ambient.istio.io/bypass-inbound-capture`.
    public var capturesInbound: Bool
    /// Whether DNS goes to ztunnel's proxy on 15053: `ambient.istio.io/dns-capture`, or the node's setting.
    public var capturesDNS: Bool
    /// Interfaces by which a guest of the pod (a virtual machine, containers inside the pod) sends what it sends:
    /// `istio.io/reroute-virtual-interfaces`. Sorted, each once; they need not exist yet.
    public private(set) var virtualInterfaces: [String]
    /// Whether connections that were open before capture began are left as they were until they close.
    public var sparesOpenConnections: Bool
    /// Whether new TCP connections that should be captured and are not are dropped, by rules that do not depend on those that
    /// capture: for the moment between damage and repair.
    public var dropsUncaptured: Bool
    /// Whether the proxy's sockets have the seal (``LinuxNetwork/Seal``): then the mark alone, which CAP_NET_RAW can set,
    /// lets no new connection and no query past. Without it whoever sets the mark is taken for the proxy, as Istio has it.
    /// Linux 5.11 and later.
    public var requiresSeal: Bool
    /// Who makes the proxy's sockets, for capture by nf_tables: what has the mark and comes from others is captured
    /// (Linux 5.13 and later). Every group whose sockets are still in use must be named. Capture by eBPF goes by the seal.
    public var creators: Set<SocketCreator>
    /// The ports that ``probeAddress(_:)`` reaches past capture, sorted, each once: those that the pod's own probes name.
    /// What may send from that address is the node's business (``HostProbePlan``).
    public var probePorts: [UInt16] {
        didSet { probePorts = Self.normalized(probePorts) }
    }
    /// Whether that address reaches every port, as Istio's rules have it.
    public var exemptsEveryProbePort: Bool

    /// - Parameter virtualInterfaces: In any order. What no virtual interface can be called
    ///   (``InterfaceName/virtualProblem(_:)``), and what is beyond ``mostVirtualInterfaces``, is left out.
    public init(
        families: Set<IPAddress.Family> = [.v4, .v6], capturesInbound: Bool = true,
        capturesDNS: Bool = false, virtualInterfaces: [String] = [], sparesOpenConnections: Bool = true,
        probePorts: [UInt16] = [], exemptsEveryProbePort: Bool = false, creators: Set<SocketCreator> = [],
        dropsUncaptured: Bool = false, requiresSeal: Bool = false
    ) {
        self.families = families
        self.capturesInbound = capturesInbound
        self.capturesDNS = capturesDNS
        let names = Set(virtualInterfaces).filter { InterfaceName.virtualProblem($0) == nil }.sorted()
        self.virtualInterfaces = Array(names.prefix(Self.mostVirtualInterfaces))
        self.sparesOpenConnections = sparesOpenConnections
        self.creators = creators
        self.dropsUncaptured = dropsUncaptured
        self.requiresSeal = requiresSeal
        self.probePorts = Self.normalized(probePorts)
        self.exemptsEveryProbePort = exemptsEveryProbePort
    }

    private static func normalized(_ ports: [UInt16]) -> [UInt16] { Set(ports).sorted() }

    /// The families in the order their rules stand in.
    var orderedFamilies: [IPAddress.Family] { IPAddress.Family.allCases.filter(families.contains) }

    /// Each is a rule a family, which every packet that comes in as the first of its connection passes.
    public static let mostVirtualInterfaces = 32

    /// The table that leads what is marked ``LinuxNetwork/Mark/inbound`` back to this host.
    public static let routeTable: UInt32 = 100
    public static let rulePriority: UInt32 = 32764

    /// The source address of the kubelet's probes, which the node gives them (``HostProbePlan``); Istio's.
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
