import Mesh
public import ObjectSource

/// Another cluster of the mesh, as it was last known.
public struct RemoteCluster: Sendable, Equatable {
    /// Its name in the mesh, in the uids of its workloads.
    public var id: String
    public var objects: ObjectSnapshot

    public init(id: String, objects: ObjectSnapshot) {
        self.id = id
        self.objects = objects
    }
}

/// What another cluster brings into this one's mesh: its global services, their endpoints, and its gateways. A value,
/// so that whatever happens there and changes none of this is no change here.
///
/// Policies, service entries and workload entries are this cluster's own affair: those of others are for their own
/// control planes.
struct RemoteContribution: Sendable, Equatable {
    let id: String
    let network: String
    let services: [Mesh.Service]
    /// Endpoints of global services and, in a network of this cluster's own, every pod.
    let workloads: [Workload]
    let gateways: [NetworkGateway]

    /// - Parameters:
    ///   - network: This cluster's own.
    ///   - kept: Names that this cluster keeps to itself.
    init(_ cluster: RemoteCluster, _ configuration: MeshConfiguration, network: String, kept: Set<NamespacedHostname>) {
        var configuration = configuration
        configuration.clusterID = cluster.id
        // That rule is of this cluster's waypoints.
        configuration.allowsWaypointsOnly = false
        var objects = cluster.objects
        objects.authorizationPolicies = [:]
        objects.peerAuthentications = [:]
        objects.serviceEntries = [:]
        objects.workloadEntries = [:]
        objects.services = objects.services.filter { name, service in
            configuration.isGlobal(service.metadata, objects.namespaces)
                && !kept.contains(HostTable.key(name, configuration))
        }
        let surroundings = Surroundings(configuration, objects)
        let translation = WorkloadTranslation(
            surroundings, memberships: Memberships(surroundings), policies: .none(surroundings))
        let services = ServiceTranslation(surroundings)
        let isNear = surroundings.network == network
        id = cluster.id
        self.network = surroundings.network
        gateways = surroundings.gateways.all
        self.services = surroundings.objects.services.values.compactMap { services.service($0) }
            .sorted { ($0.namespace, $0.hostname) < ($1.namespace, $1.hostname) }
        let all =
            cluster.objects.pods.values.compactMap { translation.workload($0) }
            + EndpointSliceTranslation(surroundings).workloads()
        workloads = all.filter { isNear || !$0.services.isEmpty }.sorted { $0.uid < $1.uid }
    }
}

extension WorkloadPolicies {
    /// Of workloads that are told of in a cluster that does not enforce anything on them.
    fileprivate static func none(_ surroundings: Surroundings) -> WorkloadPolicies {
        WorkloadPolicies(
            authorizations: PolicyAttachments(rootNamespace: surroundings.configuration.rootNamespace),
            peers: PeerAuthenticationTranslation(surroundings.configuration, surroundings.objects),
            waypoints: WaypointPolicies(surroundings, pods: PodTable()))
    }
}
