public import Discovery
import Mesh
public import ObjectSource

/// Objects as resources of the mesh: a pure function.
public struct MeshTranslation: Sendable {
    public struct Outcome: Sendable {
        /// In order of type and name, where nothing else is said.
        public var resources: [MeshResource]
        public var warnings: [PolicyWarning]
        /// What to write into the objects' status.
        public var conditions: [ObjectCondition]
        /// What is amiss between clusters.
        public var clusterWarnings: [ClusterWarning]
    }

    let configuration: MeshConfiguration

    public init(_ configuration: MeshConfiguration = MeshConfiguration()) { self.configuration = configuration }

    /// Other kinds of workloads may have a pod's name.
    func isPod(_ workload: Workload, _ name: ObjectName) -> Bool { workload.uid == uid(ofPod: name) }

    func uid(ofPod name: ObjectName) -> String { WorkloadTranslation.uid(name, configuration) }

    /// - Parameter remotes: The other clusters of the mesh.
    public func resources(of all: ObjectSnapshot, _ remotes: [RemoteCluster] = []) -> Outcome {
        var outcome = prepare(all, contributions(of: remotes, to: all)).outcome(all)
        outcome.resources.sort { ($0.typeURL, $0.name) < ($1.typeURL, $1.name) }
        return outcome
    }

    /// What other clusters bring in.
    func contributions(of remotes: [RemoteCluster], to all: ObjectSnapshot) -> [RemoteContribution] {
        guard !remotes.isEmpty else { return [] }
        let surroundings = Surroundings(configuration, all)
        let kept = Set(surroundings.hosts.keys).subtracting(globalServices(surroundings))
        return remotes.sorted { $0.id < $1.id }.map {
            RemoteContribution($0, configuration, network: surroundings.network, kept: kept)
        }
    }

    private func globalServices(_ surroundings: Surroundings) -> Set<NamespacedHostname> {
        let objects = surroundings.objects
        return Set(
            objects.services.values.filter { configuration.isGlobal($0.metadata, objects.namespaces) }.map {
                surroundings.key($0.metadata.objectName)
            })
    }

    /// Everything but the pods' workloads, and what those are made with.
    struct Prepared: Sendable {
        /// In no order.
        let others: [MeshResource]
        let warnings: [PolicyWarning]
        let conditions: [ObjectCondition]
        let clusterWarnings: [ClusterWarning]
        private let workloads: WorkloadTranslation

        fileprivate init(
            others: [MeshResource], warnings: [PolicyWarning], conditions: [ObjectCondition],
            clusterWarnings: [ClusterWarning], workloads: WorkloadTranslation
        ) {
            self.others = others
            self.warnings = warnings
            self.conditions = conditions
            self.clusterWarnings = clusterWarnings
            self.workloads = workloads
        }

        func workload(_ pod: Pod) -> Workload? { workloads.workload(pod) }

        /// Pods that lists of endpoints name otherwise than before.
        func podsNamedOtherwise(than before: Prepared) -> [ObjectName] {
            workloads.podsNamedOtherwise(than: before.workloads)
        }

        /// Without the pods' workloads; resources in no order.
        var outcomeOfOthers: Outcome {
            Outcome(resources: others, warnings: warnings, conditions: conditions, clusterWarnings: clusterWarnings)
        }

        /// Resources in no order.
        func outcome(_ objects: ObjectSnapshot) -> Outcome {
            var outcome = outcomeOfOthers
            outcome.resources += objects.pods.values.compactMap(workload).map { .workload($0) }
            return outcome
        }
    }

    func prepare(_ all: ObjectSnapshot, _ remotes: [RemoteContribution] = []) -> Prepared {
        let surroundings = Surroundings(configuration, all, gateways: remotes.flatMap(\.gateways))
        let objects = surroundings.objects
        let authorizations = AuthorizationTranslation(configuration).policies(of: objects)
        let peers = PeerAuthenticationTranslation(configuration, objects)
        let behindWaypoints = WaypointPolicies(surroundings, pods: all.pods)
        let workloads = WorkloadTranslation(
            surroundings, memberships: Memberships(surroundings),
            policies: WorkloadPolicies(
                authorizations: authorizations.attachments, peers: peers, waypoints: behindWaypoints))
        let services = ServiceTranslation(surroundings)
        let entries = ServiceEntryTranslation(surroundings)

        var resources: [MeshResource] = []
        resources += (authorizations.policies + peers.policies + behindWaypoints.policies).map { .policy($0) }
        let shared = GlobalServices(
            surroundings, own: objects.services.values.compactMap { services.service($0) },
            global: remotes.isEmpty ? [] : globalServices(surroundings), remotes)
        resources += shared.services.map { .service($0) }
        resources += shared.workloads.map { .workload($0) }
        resources += EndpointSliceTranslation(surroundings).workloads().map { .workload($0) }
        for entry in objects.serviceEntries.values {
            resources += entries.services(entry).map { .service($0) }
            resources += entries.workloads(entry, workloads).map { .workload($0) }
        }
        resources += objects.workloadEntries.values.compactMap { workloads.workload($0) }.map { .workload($0) }
        resources += surroundings.gateways.all.map { .workload($0.workload(configuration)) }
        return Prepared(
            others: resources, warnings: authorizations.warnings.sorted(),
            conditions: Conditions(surroundings).all(authorizations.warnings), clusterWarnings: shared.warnings,
            workloads: workloads)
    }
}
