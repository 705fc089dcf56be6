import Addressing

/// One workload of the mesh: a pod, a virtual machine, an address outside (`istio.workload.Workload`).
///
/// Immutable and shared by reference: a mesh holds up to a million of them, and every index points to the same one. What
/// pods of one deployment have in common is held once, in ``WorkloadTraits``.
/// Two workloads are equal when all their fields are.
public final class Workload: Sendable {
    /// How traffic reaches it when ztunnel is asked to be transparent.
    ///
    /// `legacyMTLS` is what sidecars speak to each other. A control plane may tell of it; ztunnel does not speak it and
    /// refuses the workload, as Istio's does, so its own reader never makes one.
    public enum TunnelProtocol: UInt8, Hashable, Sendable { case none, hbone, legacyMTLS }
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
    /// Canonical addresses, in the order of preference of the control plane; may be empty.
    public let addresses: AddressList
    /// Resolved when there is no address; may be empty.
    public let hostname: String
    public let node: String
    public let status: Status
    /// Weight among the endpoints of a service; 0 means no traffic.
    public let capacity: UInt32
    /// The rest, which is the same for many.
    public let traits: WorkloadTraits

    public init(
        uid: String, name: String, addresses: AddressList, hostname: String, node: String, status: Status,
        capacity: UInt32, traits: WorkloadTraits
    ) {
        self.uid = uid
        self.name = name
        self.addresses = addresses
        self.hostname = hostname
        self.node = node
        self.status = status
        self.capacity = capacity
        self.traits = traits
    }

    /// Empty trust domain, service account and cluster take the documented defaults.
    public convenience init(
        uid: String, name: String, namespace: String, addresses: [IPAddress] = [], hostname: String = "",
        network: String = "", tunnelProtocol: TunnelProtocol = .none, trustDomain: String = "",
        serviceAccount: String = "", node: String = "", canonicalName: String = "", canonicalRevision: String = "",
        kind: Kind = .deployment, workloadName: String = "", nativeTunnel: Bool = false,
        applicationTunnel: ApplicationTunnel? = nil, services: [NamespacedHostname: PortMap] = [:],
        authorizationPolicies: [String] = [], status: Status = .healthy, clusterID: String = "",
        locality: Locality = Locality(), networkMode: NetworkMode = .standard, capacity: UInt32 = 1,
        waypoint: GatewayAddress? = nil, networkGateway: GatewayAddress? = nil
    ) {
        self.init(
            uid: uid, name: name, addresses: AddressList(addresses), hostname: hostname, node: node, status: status,
            capacity: capacity,
            traits: WorkloadTraits(
                namespace: namespace, network: network, tunnelProtocol: tunnelProtocol, trustDomain: trustDomain,
                serviceAccount: serviceAccount, canonicalName: canonicalName, canonicalRevision: canonicalRevision,
                kind: kind, workloadName: workloadName, nativeTunnel: nativeTunnel,
                applicationTunnel: applicationTunnel, services: services,
                authorizationPolicies: authorizationPolicies, clusterID: clusterID, locality: locality,
                networkMode: networkMode, waypoint: waypoint, networkGateway: networkGateway))
    }

    /// What stands in for fields that are empty on the wire.
    public enum Defaults {
        public static let trustDomain = "cluster.local"
        public static let serviceAccount = "default"
        public static let clusterID = "Kubernetes"
    }
}

// MARK: - What is shared

extension Workload {
    public var namespace: String { traits.namespace }
    public var network: String { traits.network }
    public var tunnelProtocol: TunnelProtocol { traits.tunnelProtocol }
    /// Never empty: `cluster.local` unless said otherwise.
    public var trustDomain: String { traits.trustDomain }
    /// Never empty: `default` unless said otherwise.
    public var serviceAccount: String { traits.serviceAccount }
    public var canonicalName: String { traits.canonicalName }
    public var canonicalRevision: String { traits.canonicalRevision }
    public var kind: Kind { traits.kind }
    public var workloadName: String { traits.workloadName }
    /// It speaks HBONE itself, without a ztunnel in front.
    public var nativeTunnel: Bool { traits.nativeTunnel }
    public var applicationTunnel: ApplicationTunnel? { traits.applicationTunnel }
    /// The services it is an endpoint of, with the ports it serves them on.
    public var services: [NamespacedHostname: PortMap] { traits.services }
    /// Keys (`namespace/name`) of policies that select it.
    public var authorizationPolicies: [String] { traits.authorizationPolicies }
    /// Never empty: `Kubernetes` unless said otherwise.
    public var clusterID: String { traits.clusterID }
    public var locality: Locality { traits.locality }
    public var networkMode: NetworkMode { traits.networkMode }
    public var waypoint: GatewayAddress? { traits.waypoint }
    /// How its network is entered from another one.
    public var networkGateway: GatewayAddress? { traits.networkGateway }

    /// The identity its certificate proves.
    public var identity: SPIFFEIdentity {
        SPIFFEIdentity(trustDomain: trustDomain, namespace: namespace, serviceAccount: serviceAccount)
    }
}

extension Workload: Hashable {
    public static func == (left: Workload, right: Workload) -> Bool {
        if left === right { return true }
        return left.uid == right.uid && left.status == right.status && left.addresses == right.addresses
            && left.name == right.name && left.hostname == right.hostname && left.node == right.node
            && left.capacity == right.capacity && left.traits == right.traits
    }

    public func hash(into hasher: inout Hasher) { hasher.combine(uid) }
}

extension Workload: CustomStringConvertible {
    public var description: String { "\(uid) (\(addresses.map(\.description).joined(separator: ", ")))" }
}
