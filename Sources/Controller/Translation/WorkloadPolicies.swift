import Mesh
import ObjectSource

/// The policies that a workload refers to by name.
struct WorkloadPolicies {
    let authorizations: PolicyAttachments
    let peers: PeerAuthenticationTranslation
    let waypoints: WaypointPolicies

    /// - Parameter services: What the workload is an endpoint of.
    func names(for workload: ObjectMeta, waypoint: Waypoint?, services: [NamespacedHostname]) -> [String] {
        let all =
            authorizations.policies(for: workload) + peers.policies(for: workload)
            + waypoints.names(workload: waypoint, services: services)
        return Set(all).sorted()
    }
}

/// With ``MeshConfiguration/allowsWaypointsOnly``: who has a waypoint takes connections from nobody else.
///
/// The policy of a waypoint allows the identities of its pods, and so forbids all others.
struct WaypointPolicies {
    static let prefix = "istio_allow_waypoint_"

    private var policiesByWaypoint: [ObjectName: Mesh.AuthorizationPolicy] = [:]
    private var waypointsByService: [NamespacedHostname: [ObjectName]] = [:]

    init(_ surroundings: Surroundings, pods: PodTable) {
        guard surroundings.configuration.allowsWaypointsOnly else { return }
        var accounts: [ObjectName: Set<String>] = [:]
        for pod in pods.values where pod.status.phase?.isTerminal != true {
            guard let waypoint = surroundings.waypoints.waypoint(ofInstance: pod.metadata) else { continue }
            accounts[waypoint.name, default: []].insert(pod.spec.serviceAccountName)
        }
        for name in surroundings.waypoints.all.keys {
            // Without pods nobody is allowed, as nothing goes past a waypoint that is away.
            let principals = (accounts[name] ?? []).sorted().map {
                Mesh.AuthorizationPolicy.StringMatch.exact(
                    "\(surroundings.configuration.trustDomain)/ns/\(name.namespace)/sa/\($0)")
            }
            policiesByWaypoint[name] = Mesh.AuthorizationPolicy(
                name: "\(Self.prefix)\(name.namespace)_\(name.name)", namespace: name.namespace,
                scope: .workloadSelector, action: .allow,
                rules: principals.isEmpty ? [] : [.init(clauses: [.init(matches: [.init(principals: principals)])])])
        }
        for (name, service) in surroundings.objects.services {
            let found = surroundings.waypoints.attachment(of: service.metadata, as: .service)
            note(found, surroundings.key(name))
        }
        for entry in surroundings.objects.serviceEntries.values {
            let found = surroundings.waypoints.attachment(
                of: entry.metadata, as: .service,
                ownNamespaceOnly: surroundings.hosts.visibility(of: entry) == .namespace)
            for host in surroundings.hosts.hosts(of: entry) { note(found, Memberships.key(entry, host)) }
        }
    }

    private mutating func note(_ found: WaypointAttachment, _ service: NamespacedHostname) {
        let names = [found.waypoint, found.canary?.waypoint].compactMap { $0?.name }
        if !names.isEmpty { waypointsByService[service] = names }
    }

    var policies: [Mesh.AuthorizationPolicy] { Array(policiesByWaypoint.values) }

    func names(workload waypoint: Waypoint?, services: [NamespacedHostname]) -> [String] {
        guard !policiesByWaypoint.isEmpty else { return [] }
        let names = [waypoint?.name].compactMap { $0 } + services.flatMap { waypointsByService[$0] ?? [] }
        return names.compactMap { policiesByWaypoint[$0]?.key }
    }
}
