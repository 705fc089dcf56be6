public import Discovery
import Mesh
public import ObjectSource

/// Objects as resources of the mesh: a pure function.
public struct MeshTranslation: Sendable {
    public struct Outcome: Sendable {
        /// In order of type and name.
        public var resources: [MeshResource]
        public var warnings: [PolicyWarning]
        /// What to write into the objects' status.
        public var conditions: [ObjectCondition]
    }

    let configuration: MeshConfiguration

    public init(_ configuration: MeshConfiguration = MeshConfiguration()) { self.configuration = configuration }

    /// Other kinds of workloads may have a pod's name.
    func isPod(_ workload: Workload, _ name: ObjectName) -> Bool { workload.uid == uid(ofPod: name) }

    func uid(ofPod name: ObjectName) -> String { WorkloadTranslation.uid(name, configuration) }

    public func resources(of all: ObjectSnapshot) -> Outcome {
        var outcome = prepare(all).outcome(all)
        outcome.resources.sort { ($0.typeURL, $0.name) < ($1.typeURL, $1.name) }
        return outcome
    }

    /// Everything but the pods' workloads, and what those are made with.
    struct Prepared: Sendable {
        /// In no order.
        let others: [MeshResource]
        let warnings: [PolicyWarning]
        let conditions: [ObjectCondition]
        private let workloads: WorkloadTranslation

        fileprivate init(
            others: [MeshResource], warnings: [PolicyWarning], conditions: [ObjectCondition],
            workloads: WorkloadTranslation
        ) {
            self.others = others
            self.warnings = warnings
            self.conditions = conditions
            self.workloads = workloads
        }

        func workload(_ pod: Pod) -> Workload? { workloads.workload(pod) }

        /// Pods that lists of endpoints name otherwise than before.
        func podsNamedOtherwise(than before: Prepared) -> [ObjectName] {
            workloads.podsNamedOtherwise(than: before.workloads)
        }

        /// Resources in no order.
        func outcome(_ objects: ObjectSnapshot) -> Outcome {
            Outcome(
                resources: others + objects.pods.values.compactMap(workload).map { .workload($0) }, warnings: warnings,
                conditions: conditions)
        }
    }

    func prepare(_ all: ObjectSnapshot) -> Prepared {
        let surroundings = Surroundings(configuration, all)
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
        resources += objects.services.values.compactMap { services.service($0) }.map { .service($0) }
        resources += EndpointSliceTranslation(surroundings).workloads().map { .workload($0) }
        for entry in objects.serviceEntries.values {
            resources += entries.services(entry).map { .service($0) }
            resources += entries.workloads(entry, workloads).map { .workload($0) }
        }
        resources += objects.workloadEntries.values.compactMap { workloads.workload($0) }.map { .workload($0) }
        resources += surroundings.gateways.all.map { .workload($0.workload(configuration)) }
        return Prepared(
            others: resources, warnings: authorizations.warnings.sorted(),
            conditions: Conditions(surroundings).all(authorizations.warnings), workloads: workloads)
    }
}
