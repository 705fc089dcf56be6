import Addressing

/// A service of the mesh (`istio.workload.Service`): a host name and addresses in front of endpoints.
///
/// Immutable and shared by reference. Its endpoints are not in it: workloads name the services they belong to.
public final class Service: Sendable {
    /// What is spoken on a port, as the control plane knows it; ztunnel does not look at it.
    public enum AppProtocol: UInt8, Hashable, Sendable { case unknown, http11, http2, grpc, tls, tcp }

    public struct Port: Hashable, Sendable {
        public let servicePort: UInt16
        /// 0 when each endpoint says its own (a named port).
        public let targetPort: UInt16
        public let appProtocol: AppProtocol

        public init(_ servicePort: UInt16, target: UInt16, appProtocol: AppProtocol = .unknown) {
            self.servicePort = servicePort
            self.targetPort = target
            self.appProtocol = appProtocol
        }
    }

    /// One of several waypoints that share a service's traffic.
    public struct WeightedWaypoint: Hashable, Sendable {
        public let destination: GatewayAddress
        public let weight: UInt32

        public init(_ destination: GatewayAddress, weight: UInt32) {
            self.destination = destination
            self.weight = weight
        }
    }

    /// Which address families clients may be sent to.
    public enum IPFamilies: UInt8, Hashable, Sendable {
        case automatic, v4Only, v6Only, dual

        func accepts(_ address: IPAddress) -> Bool {
            switch self {
            case .automatic, .dual: true
            case .v4Only: address.family == .v4
            case .v6Only: address.family == .v6
            }
        }
    }

    /// `namespace`: only clients of the service's own namespace see it.
    public enum Visibility: UInt8, Hashable, Sendable { case everywhere, namespace }

    public let name: String
    public let namespace: String
    public let hostname: String
    /// Virtual addresses; none for a headless service.
    public let addresses: [NetworkAddress]
    /// Virtual address blocks.
    public let blocks: [NetworkCIDR]
    public let ports: [Port]
    /// Identities accepted from its endpoints besides their own, as written on the wire.
    public let subjectAltNames: [String]
    public let waypoint: GatewayAddress?
    public let weightedWaypoints: [WeightedWaypoint]
    public let loadBalancing: LoadBalancing?
    public let ipFamilies: IPFamilies
    /// Wins among services of one host name or address in several namespaces.
    public let canonical: Bool
    public let ingressUseWaypoint: Bool
    public let visibility: Visibility
    /// ``subjectAltNames`` that are SPIFFE identities, in order; others can match no certificate and are left out.
    public let subjectIdentities: [SPIFFEIdentity]

    public init(
        name: String, namespace: String, hostname: String, addresses: [NetworkAddress] = [],
        blocks: [NetworkCIDR] = [], ports: [Port] = [], subjectAltNames: [String] = [],
        waypoint: GatewayAddress? = nil, weightedWaypoints: [WeightedWaypoint] = [],
        loadBalancing: LoadBalancing? = nil, ipFamilies: IPFamilies = .automatic, canonical: Bool = false,
        ingressUseWaypoint: Bool = false, visibility: Visibility = .everywhere
    ) {
        self.name = name
        self.namespace = namespace
        self.hostname = hostname
        self.addresses = addresses
        self.blocks = blocks
        self.ports = ports
        self.subjectAltNames = subjectAltNames
        self.waypoint = waypoint
        self.weightedWaypoints = weightedWaypoints
        self.loadBalancing = loadBalancing
        self.ipFamilies = ipFamilies
        self.canonical = canonical
        self.ingressUseWaypoint = ingressUseWaypoint
        self.visibility = visibility
        subjectIdentities = subjectAltNames.compactMap { SPIFFEIdentity($0) }
    }

    public var key: NamespacedHostname { NamespacedHostname(namespace: namespace, hostname: hostname) }

    /// The target port of a service port; 0 when it is named; `nil` when the service has no such port.
    public func targetPort(of servicePort: UInt16) -> UInt16? {
        ports.first { $0.servicePort == servicePort }?.targetPort
    }

    /// Connections go to the address the client used, whatever the endpoints are.
    public var isPassthrough: Bool { loadBalancing?.mode == .passthrough }

    func isVisible(from namespace: String?) -> Bool {
        visibility == .everywhere || namespace == nil || self.namespace == namespace
    }
}

/// How a client chooses among the endpoints of a service.
public struct LoadBalancing: Hashable, Sendable {
    public enum Scope: UInt8, Hashable, Sendable { case region = 1, zone, subzone, node, cluster, network }
    public enum Mode: UInt8, Hashable, Sendable {
        /// Every endpoint, by capacity alone.
        case standard
        /// Only endpoints that match every preference.
        case strict
        /// The endpoints that match the longest part of the preferences.
        case failover
        case passthrough
    }
    public enum HealthPolicy: UInt8, Hashable, Sendable { case onlyHealthy, allowAll }

    public let preferences: [Scope]
    public let mode: Mode
    public let healthPolicy: HealthPolicy

    public init(preferences: [Scope] = [], mode: Mode = .standard, healthPolicy: HealthPolicy = .onlyHealthy) {
        self.preferences = preferences
        self.mode = mode
        self.healthPolicy = healthPolicy
    }
}

extension Service: Hashable {
    public static func == (left: Service, right: Service) -> Bool {
        if left === right { return true }
        return left.hostname == right.hostname && left.namespace == right.namespace && left.name == right.name
            && left.addresses == right.addresses && left.blocks == right.blocks && left.ports == right.ports
            && left.subjectAltNames == right.subjectAltNames && left.waypoint == right.waypoint
            && left.weightedWaypoints == right.weightedWaypoints && left.loadBalancing == right.loadBalancing
            && left.ipFamilies == right.ipFamilies && left.canonical == right.canonical
            && left.ingressUseWaypoint == right.ingressUseWaypoint && left.visibility == right.visibility
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(namespace)
        hasher.combine(hostname)
    }
}

extension Service: CustomStringConvertible {
    public var description: String { key.description }
}
