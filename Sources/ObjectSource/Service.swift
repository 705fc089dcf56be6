/// A service, as far as the mesh looks at it.
public struct Service: Hashable, Sendable {
    public var metadata: ObjectMeta
    public var spec: ServiceSpec

    public init(metadata: ObjectMeta, spec: ServiceSpec = ServiceSpec()) {
        self.metadata = metadata
        self.spec = spec
    }
}

/// ``Service`` for those who see another type of that name as well; the module's name is that of a protocol and
/// cannot stand before a dot.
public typealias ServiceObject = Service

public struct ServiceSpec: Hashable, Sendable {
    public enum ServiceType: String, Hashable, Sendable, CaseIterable {
        case clusterIP = "ClusterIP"
        case nodePort = "NodePort"
        case loadBalancer = "LoadBalancer"
        case externalName = "ExternalName"
    }
    public enum IPFamily: String, Hashable, Sendable, CaseIterable {
        case v4 = "IPv4"
        case v6 = "IPv6"
    }
    public enum InternalTrafficPolicy: String, Hashable, Sendable, CaseIterable {
        case cluster = "Cluster"
        case local = "Local"
    }

    public var type: ServiceType
    /// Pods that carry all these labels are endpoints; empty selects none.
    public var selector: [String: String]
    /// As text; `None` is left out, and headless services have none.
    public var clusterIPs: [String]
    public var ports: [ServicePort]
    public var ipFamilies: [IPFamily]
    public var internalTrafficPolicy: InternalTrafficPolicy
    /// `PreferSameZone` and so on; empty where nothing is said.
    public var trafficDistribution: String
    /// Endpoints get traffic before they are ready.
    public var publishNotReadyAddresses: Bool

    public init(
        type: ServiceType = .clusterIP, selector: [String: String] = [:], clusterIPs: [String] = [],
        ports: [ServicePort] = [], ipFamilies: [IPFamily] = [],
        internalTrafficPolicy: InternalTrafficPolicy = .cluster, trafficDistribution: String = "",
        publishNotReadyAddresses: Bool = false
    ) {
        self.type = type
        self.selector = selector
        self.clusterIPs = clusterIPs
        self.ports = ports
        self.ipFamilies = ipFamilies
        self.internalTrafficPolicy = internalTrafficPolicy
        self.trafficDistribution = trafficDistribution
        self.publishNotReadyAddresses = publishNotReadyAddresses
    }
}

public struct ServicePort: Hashable, Sendable {
    /// Where a pod serves a port.
    public enum Target: Hashable, Sendable {
        case number(UInt16)
        /// The name of a container's port; every pod has its own number for it.
        case name(String)
    }

    public var name: String
    public var port: UInt16
    public var target: Target
    public var transport: Transport
    public var appProtocol: String

    /// `target: nil` means the same number as the service's port.
    public init(
        name: String = "", port: UInt16, target: Target? = nil, transport: Transport = .tcp, appProtocol: String = ""
    ) {
        self.name = name
        self.port = port
        self.target = target ?? .number(port)
        self.transport = transport
        self.appProtocol = appProtocol
    }
}
