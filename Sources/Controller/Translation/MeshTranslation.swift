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
        /// Those of the resources that are no pods (``Prepared/others``).
        var others: [String: [MeshResource]] = [:]
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
        let kept = surroundings.hosts.keys.subtracting(globalServices(surroundings))
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
        /// The name under which lies what is made of more than one namespace.
        static let wide = ""

        /// By namespace what is made of its own services, slices and workload entries; in no order.
        fileprivate(set) var others: [String: [MeshResource]] = [:]
        fileprivate(set) var serviceConditions: [String: [ObjectCondition]] = [:]
        let warnings: [PolicyWarning]
        let clusterWarnings: [ClusterWarning]
        fileprivate let conditionsOfOthers: [ObjectCondition]
        fileprivate let workloads: WorkloadTranslation

        func workload(_ pod: Pod) -> Workload? { workloads.workload(pod) }

        /// Pods that lists of endpoints name otherwise than before.
        func podsNamedOtherwise(than before: Prepared) -> [ObjectName] {
            workloads.memberships.podsNamedOtherwise(than: before.workloads.memberships)
        }

        var conditions: [ObjectCondition] { (serviceConditions.values.joined() + conditionsOfOthers).sorted() }

        /// Resources in no order.
        func outcome(_ objects: ObjectSnapshot) -> Outcome {
            Outcome(
                resources: others.values.joined() + objects.pods.values.compactMap(workload).map { .workload($0) },
                warnings: warnings, conditions: conditions, clusterWarnings: clusterWarnings, others: others)
        }
    }

    /// - Parameter last: What was prepared before, and the namespaces whose own has changed since; of the others it is
    ///   taken over. Not with other clusters, then or now, since those share services.
    func prepare(
        _ all: ObjectSnapshot, _ remotes: [RemoteContribution] = [],
        reusing last: (prepared: Prepared, changed: Set<String>)? = nil
    ) -> Prepared {
        let surroundings = Surroundings(configuration, all, gateways: remotes.flatMap(\.gateways))
        let objects = surroundings.objects
        let authorizations = AuthorizationTranslation(configuration).policies(of: objects)
        let peers = PeerAuthenticationTranslation(configuration, objects)
        let behindWaypoints = WaypointPolicies(surroundings, pods: all.pods)
        let memberships = Memberships(
            surroundings, reusing: last.map { ($0.prepared.workloads.memberships, $0.changed) })
        let workloads = WorkloadTranslation(
            surroundings, memberships: memberships,
            policies: WorkloadPolicies(
                authorizations: authorizations.attachments, peers: peers, waypoints: behindWaypoints))
        let entries = ServiceEntryTranslation(surroundings)
        let conditions = Conditions(surroundings)
        var own = OwnOfNamespaces(surroundings, workloads, conditions, reusing: last)

        var wide = (authorizations.policies + peers.policies + behindWaypoints.policies).map { MeshResource.policy($0) }
        for entry in objects.serviceEntries.values {
            wide += entries.services(entry).map { .service($0) }
            wide += entries.workloads(entry, workloads).map { .workload($0) }
        }
        wide += surroundings.gateways.all.map { .workload($0.workload(configuration)) }
        var clusterWarnings: [ClusterWarning] = []
        if !remotes.isEmpty {
            let shared = GlobalServices(
                surroundings, own: own.takeServices(), global: globalServices(surroundings), remotes)
            wide += shared.services.map { .service($0) } + shared.workloads.map { .workload($0) }
            clusterWarnings = shared.warnings
        }
        own.resources[Prepared.wide] = wide
        return Prepared(
            others: own.resources, serviceConditions: own.conditions, warnings: authorizations.warnings.sorted(),
            clusterWarnings: clusterWarnings, conditionsOfOthers: conditions.others(authorizations.warnings),
            workloads: workloads)
    }
}

/// What is made of the services, slices and workload entries of one namespace, for each of them.
private struct OwnOfNamespaces {
    var resources: [String: [MeshResource]]
    private(set) var conditions: [String: [ObjectCondition]]

    init(
        _ surroundings: Surroundings, _ workloads: WorkloadTranslation, _ all: Conditions,
        reusing last: (prepared: MeshTranslation.Prepared, changed: Set<String>)?
    ) {
        let objects = surroundings.objects
        resources = last?.prepared.others ?? [:]
        conditions = last?.prepared.serviceConditions ?? [:]
        for namespace in last?.changed ?? [] {
            resources[namespace] = nil
            conditions[namespace] = nil
        }
        let changed = last?.changed
        let services = ServiceTranslation(surroundings)
        for name in objects.services.names(in: changed) {
            guard let object = objects.services[name] else { continue }
            if let service = services.service(object) {
                resources[name.namespace, default: []].append(.service(service))
            }
            if let condition = all.service(object) { conditions[name.namespace, default: []].append(condition) }
        }
        let slices = EndpointSliceTranslation(surroundings)
        for name in objects.endpointSlices.names(in: changed) {
            guard let slice = objects.endpointSlices[name] else { continue }
            let found = slices.workloads(slice)
            if !found.isEmpty { resources[name.namespace, default: []] += found.map { .workload($0) } }
        }
        for (name, entry) in objects.workloadEntries where changed?.contains(name.namespace) ?? true {
            if let workload = workloads.workload(entry) {
                resources[name.namespace, default: []].append(.workload(workload))
            }
        }
    }

    /// Takes the services out.
    mutating func takeServices() -> [Mesh.Service] {
        var services: [Mesh.Service] = []
        for (namespace, found) in resources {
            resources[namespace] = found.filter { resource in
                guard case .service(let service) = resource else { return true }
                services.append(service)
                return false
            }
        }
        return services
    }
}
