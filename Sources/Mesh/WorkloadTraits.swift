/// What many workloads have in common, such as the pods of one deployment: everything but name, addresses, node, health
/// and capacity. Immutable and shared by reference.
public final class WorkloadTraits: Sendable {
    public let namespace: String
    public let network: String
    public let tunnelProtocol: Workload.TunnelProtocol
    public let trustDomain: String
    public let serviceAccount: String
    public let canonicalName: String
    public let canonicalRevision: String
    public let kind: Workload.Kind
    public let workloadName: String
    public let nativeTunnel: Bool
    public let applicationTunnel: Workload.ApplicationTunnel?
    public let services: [NamespacedHostname: PortMap]
    public let authorizationPolicies: [String]
    public let clusterID: String
    public let locality: Locality
    public let networkMode: Workload.NetworkMode
    public let waypoint: GatewayAddress?
    public let networkGateway: GatewayAddress?

    /// Empty trust domain, service account and cluster take the documented defaults.
    public init(
        namespace: String, network: String, tunnelProtocol: Workload.TunnelProtocol, trustDomain: String,
        serviceAccount: String, canonicalName: String, canonicalRevision: String, kind: Workload.Kind,
        workloadName: String, nativeTunnel: Bool, applicationTunnel: Workload.ApplicationTunnel?,
        services: [NamespacedHostname: PortMap], authorizationPolicies: [String], clusterID: String,
        locality: Locality, networkMode: Workload.NetworkMode, waypoint: GatewayAddress?,
        networkGateway: GatewayAddress?
    ) {
        self.namespace = namespace
        self.network = network
        self.tunnelProtocol = tunnelProtocol
        self.trustDomain = trustDomain.isEmpty ? Workload.Defaults.trustDomain : trustDomain
        self.serviceAccount = serviceAccount.isEmpty ? Workload.Defaults.serviceAccount : serviceAccount
        self.canonicalName = canonicalName
        self.canonicalRevision = canonicalRevision
        self.kind = kind
        self.workloadName = workloadName
        self.nativeTunnel = nativeTunnel
        self.applicationTunnel = applicationTunnel
        self.services = services
        self.authorizationPolicies = authorizationPolicies
        self.clusterID = clusterID.isEmpty ? Workload.Defaults.clusterID : clusterID
        self.locality = locality
        self.networkMode = networkMode
        self.waypoint = waypoint
        self.networkGateway = networkGateway
    }
}

extension WorkloadTraits: Equatable {
    public static func == (left: WorkloadTraits, right: WorkloadTraits) -> Bool {
        if left === right { return true }
        // The fields most likely to differ come first.
        return left.tunnelProtocol == right.tunnelProtocol && left.services == right.services
            && left.authorizationPolicies == right.authorizationPolicies && left.waypoint == right.waypoint
            && left.namespace == right.namespace && left.network == right.network
            && left.trustDomain == right.trustDomain && left.serviceAccount == right.serviceAccount
            && left.canonicalName == right.canonicalName && left.canonicalRevision == right.canonicalRevision
            && left.kind == right.kind && left.workloadName == right.workloadName
            && left.nativeTunnel == right.nativeTunnel && left.applicationTunnel == right.applicationTunnel
            && left.clusterID == right.clusterID && left.locality == right.locality
            && left.networkMode == right.networkMode && left.networkGateway == right.networkGateway
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
