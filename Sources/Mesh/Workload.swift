import Addressing

/// One workload of the mesh: a pod, a virtual machine, an address outside (`istio.workload.Workload`).
///
/// Immutable and shared by reference: a mesh holds up to a million of them, and every index points to the same one.
/// Two workloads are equal when all their fields are.
public final class Workload: Sendable {
    /// How traffic reaches it when ztunnel is asked to be transparent.
    public enum TunnelProtocol: UInt8, Hashable, Sendable { case none, hbone }
    public enum Kind: String, Hashable, Sendable, CaseIterable { case deployment, cronjob, pod, job }
    public enum Status: UInt8, Hashable, Sendable { case healthy, unhealthy }
    /// `hostNetwork` workloads share their address with the node and are never found by it.
    public enum NetworkMode: UInt8, Hashable, Sendable { case standard, hostNetwork }

    /// A proxy of its own in front of the application (a waypoint behind ztunnel, "sandwich").
    public struct ApplicationTunnel: Hashable, Sendable {
        public enum Framing: UInt8, Hashable, Sendable { case none, proxy }
        /// Whether a PROXY protocol v2 header says where the connection was meant to go.
        public let framing: Framing
        /// Overrides the port connected to.
        public let port: UInt16?

        public init(framing: Framing, port: UInt16? = nil) {
            self.framing = framing
            self.port = port == 0 ? nil : port
        }
    }

    /// Unique in the mesh: `cluster/group/kind/namespace/name/section`.
    public let uid: String
    public let name: String
    public let namespace: String
    /// Canonical addresses, in the order of preference of the control plane; may be empty.
    public let addresses: [IPAddress]
    /// Resolved when there is no address; may be empty.
    public let hostname: String
    public let network: String
    public let tunnelProtocol: TunnelProtocol
    /// Never empty: `cluster.local` unless said otherwise.
    public let trustDomain: String
    /// Never empty: `default` unless said otherwise.
    public let serviceAccount: String
    public let node: String
    public let canonicalName: String
    public let canonicalRevision: String
    public let kind: Kind
    public let workloadName: String
    /// It speaks HBONE itself, without a ztunnel in front.
    public let nativeTunnel: Bool
    public let applicationTunnel: ApplicationTunnel?
    /// The services it is an endpoint of, with the ports it serves them on.
    public let services: [NamespacedHostname: PortMap]
    /// Keys (`namespace/name`) of policies that select it.
    public let authorizationPolicies: [String]
    public let status: Status
    /// Never empty: `Kubernetes` unless said otherwise.
    public let clusterID: String
    public let locality: Locality
    public let networkMode: NetworkMode
    /// Weight among the endpoints of a service; 0 means no traffic.
    public let capacity: UInt32
    public let waypoint: GatewayAddress?
    /// How its network is entered from another one.
    public let networkGateway: GatewayAddress?

    /// Empty trust domain, service account and cluster take the documented defaults.
    public init(
        uid: String, name: String, namespace: String, addresses: [IPAddress] = [], hostname: String = "",
        network: String = "", tunnelProtocol: TunnelProtocol = .none, trustDomain: String = "",
        serviceAccount: String = "", node: String = "", canonicalName: String = "", canonicalRevision: String = "",
        kind: Kind = .deployment, workloadName: String = "", nativeTunnel: Bool = false,
        applicationTunnel: ApplicationTunnel? = nil, services: [NamespacedHostname: PortMap] = [:],
        authorizationPolicies: [String] = [], status: Status = .healthy, clusterID: String = "",
        locality: Locality = Locality(), networkMode: NetworkMode = .standard, capacity: UInt32 = 1,
        waypoint: GatewayAddress? = nil, networkGateway: GatewayAddress? = nil
    ) {
        self.uid = uid
        self.name = name
        self.namespace = namespace
        self.addresses = addresses.map(\.canonical)
        self.hostname = hostname
        self.network = network
        self.tunnelProtocol = tunnelProtocol
        self.trustDomain = trustDomain.isEmpty ? Defaults.trustDomain : trustDomain
        self.serviceAccount = serviceAccount.isEmpty ? Defaults.serviceAccount : serviceAccount
        self.node = node
        self.canonicalName = canonicalName
        self.canonicalRevision = canonicalRevision
        self.kind = kind
        self.workloadName = workloadName
        self.nativeTunnel = nativeTunnel
        self.applicationTunnel = applicationTunnel
        self.services = services
        self.authorizationPolicies = authorizationPolicies
        self.status = status
        self.clusterID = clusterID.isEmpty ? Defaults.clusterID : clusterID
        self.locality = locality
        self.networkMode = networkMode
        self.capacity = capacity
        self.waypoint = waypoint
        self.networkGateway = networkGateway
    }

    /// What stands in for fields that are empty on the wire.
    public enum Defaults {
        public static let trustDomain = "cluster.local"
        public static let serviceAccount = "default"
        public static let clusterID = "Kubernetes"
    }

    /// The identity its certificate proves.
    public var identity: SPIFFEIdentity {
        SPIFFEIdentity(trustDomain: trustDomain, namespace: namespace, serviceAccount: serviceAccount)
    }
}

/// Where a workload runs; empty where it is not known.
public struct Locality: Hashable, Sendable {
    public let region: String
    public let zone: String
    public let subzone: String

    public init(region: String = "", zone: String = "", subzone: String = "") {
        self.region = region
        self.zone = zone
        self.subzone = subzone
    }
}

extension Workload: Hashable {
    public static func == (left: Workload, right: Workload) -> Bool {
        if left === right { return true }
        // The fields most likely to differ come first.
        return left.uid == right.uid && left.status == right.status && left.addresses == right.addresses
            && left.tunnelProtocol == right.tunnelProtocol && left.services == right.services
            && left.authorizationPolicies == right.authorizationPolicies && left.waypoint == right.waypoint
            && left.name == right.name && left.namespace == right.namespace && left.hostname == right.hostname
            && left.network == right.network && left.trustDomain == right.trustDomain
            && left.serviceAccount == right.serviceAccount && left.node == right.node
            && left.canonicalName == right.canonicalName && left.canonicalRevision == right.canonicalRevision
            && left.kind == right.kind && left.workloadName == right.workloadName
            && left.nativeTunnel == right.nativeTunnel && left.applicationTunnel == right.applicationTunnel
            && left.clusterID == right.clusterID && left.locality == right.locality
            && left.networkMode == right.networkMode && left.capacity == right.capacity
            && left.networkGateway == right.networkGateway
    }

    public func hash(into hasher: inout Hasher) { hasher.combine(uid) }
}

extension Workload: CustomStringConvertible {
    public var description: String { "\(uid) (\(addresses.map(\.description).joined(separator: ", ")))" }
}
