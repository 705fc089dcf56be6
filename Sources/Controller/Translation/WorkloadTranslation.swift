import Addressing
import Mesh
import ObjectSource

/// Pods and workload entries as workloads of the mesh.
struct WorkloadTranslation {
    private let surroundings: Surroundings
    let memberships: Memberships
    private let policies: WorkloadPolicies

    static let tunnelLabel = "networking.istio.io/tunnel"
    /// What an injected sidecar puts on its pod.
    static let tlsModeLabel = "security.istio.io/tlsMode"

    init(_ surroundings: Surroundings, memberships: Memberships, policies: WorkloadPolicies) {
        self.surroundings = surroundings
        self.memberships = memberships
        self.policies = policies
    }

    private var configuration: MeshConfiguration { surroundings.configuration }

    /// `nil` for a pod that has ended or has no address yet, or whose namespace is not the mesh's.
    func workload(_ pod: Pod) -> Workload? {
        let addresses = pod.status.podIPs.compactMap { IPAddress($0) }
        guard pod.status.phase?.isTerminal != true, !addresses.isEmpty,
            surroundings.isDiscovered(pod.metadata.namespace)
        else { return nil }
        let (tunnel, isNative) = tunnel(pod.metadata)
        let workloadName = WorkloadName.of(pod)
        let services = memberships.services(of: pod)
        // A waypoint does not stand behind another one, nor behind itself.
        let instanceOf = surroundings.waypoints.waypoint(ofInstance: pod.metadata)
        let waypoint =
            instanceOf == nil ? surroundings.waypoints.attachment(of: pod.metadata, as: .workload).waypoint : nil
        return Workload(
            uid: Self.uid(pod.name, configuration),
            name: pod.metadata.name, namespace: pod.metadata.namespace, addresses: addresses,
            network: surroundings.network,
            tunnelProtocol: tunnel, trustDomain: configuration.trustDomain,
            serviceAccount: pod.spec.serviceAccountName, node: pod.spec.nodeName,
            canonicalName: CanonicalName.name(pod.metadata.labels) ?? workloadName,
            canonicalRevision: CanonicalName.revision(pod.metadata.labels),
            kind: .pod, workloadName: workloadName, nativeTunnel: isNative,
            applicationTunnel: instanceOf?.inboundBinding, services: services,
            authorizationPolicies: policies.names(
                for: pod.metadata, waypoint: waypoint, services: instanceOf == nil ? Array(services.keys) : []),
            status: pod.status.isReady && !pod.metadata.isBeingDeleted ? .healthy : .unhealthy,
            clusterID: configuration.clusterID, locality: surroundings.locality(ofNode: pod.spec.nodeName),
            networkMode: pod.spec.hostNetwork ? .hostNetwork : .standard, waypoint: waypoint?.address,
            networkGateway: surroundings.gateways.address(of: surroundings.network))
    }

    static func uid(_ pod: ObjectName, _ configuration: MeshConfiguration) -> String {
        "\(configuration.clusterID)//Pod/\(pod)"
    }

    /// Nobody reports on it, so it counts as healthy.
    func workload(_ entry: WorkloadEntry) -> Workload? {
        var metadata = entry.metadata
        metadata.labels = entry.labels
        let services = memberships.services(of: entry)
        let waypoint = surroundings.waypoints.attachment(of: metadata, as: .workload).waypoint
        return workload(
            entry.spec, metadata: metadata,
            uid: "\(configuration.clusterID)/networking.istio.io/WorkloadEntry/\(metadata.namespace)/\(metadata.name)",
            services: services, waypoint: waypoint,
            policies: policies.names(for: metadata, waypoint: waypoint, services: Array(services.keys)))
    }

    /// An endpoint that stands inside a service entry. Its labels are the endpoint's alone.
    func workload(
        _ endpoint: WorkloadEntrySpec, of entry: ServiceEntry, services: [NamespacedHostname: PortMap]
    ) -> Workload? {
        var metadata = entry.metadata
        metadata.labels = endpoint.labels
        metadata.annotations = [:]
        let waypoint = surroundings.waypoints.attachment(of: metadata, as: .workload).waypoint
        return workload(
            endpoint, metadata: metadata,
            uid: "\(configuration.clusterID)/networking.istio.io/ServiceEntry/\(metadata.namespace)/"
                + "\(metadata.name)/\(endpoint.address)",
            services: services, waypoint: waypoint,
            policies: policies.names(for: metadata, waypoint: waypoint, services: Array(services.keys)))
    }

    private func workload(
        _ spec: WorkloadEntrySpec, metadata: ObjectMeta, uid: String, services: [NamespacedHostname: PortMap],
        waypoint: Waypoint?, policies: [String]
    ) -> Workload? {
        let address = IPAddress(spec.address)
        let network = spec.network.isEmpty ? surroundings.network : spec.network
        let gateway = surroundings.gateways.address(of: network)
        // Without an address it is reached by its network's gateway or not at all.
        guard !spec.address.isEmpty || gateway != nil else { return nil }
        let (tunnel, isNative) = tunnel(metadata)
        let name = metadata.labels[WorkloadName.override] ?? metadata.name
        return Workload(
            uid: uid, name: metadata.name, namespace: metadata.namespace, addresses: address.map { [$0] } ?? [],
            hostname: address == nil ? spec.address : "", network: network, tunnelProtocol: tunnel,
            trustDomain: configuration.trustDomain, serviceAccount: spec.serviceAccount,
            canonicalName: CanonicalName.name(metadata.labels) ?? name,
            canonicalRevision: CanonicalName.revision(metadata.labels), kind: .pod, workloadName: name,
            nativeTunnel: isNative, services: services, authorizationPolicies: policies, status: .healthy,
            clusterID: configuration.clusterID, locality: Self.locality(spec.locality),
            capacity: max(spec.weight ?? 1, 1), waypoint: waypoint?.address, networkGateway: gateway)
    }

    /// `region/zone/subzone`
    private static func locality(_ text: String) -> Locality {
        let parts = text.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        return Locality(
            region: parts.first ?? "", zone: parts.count > 1 ? parts[1] : "", subzone: parts.count > 2 ? parts[2] : "")
    }

    /// What is reported about the capture decides, never what was asked for.
    private func tunnel(_ metadata: ObjectMeta) -> (Workload.TunnelProtocol, isNative: Bool) {
        let isNative = metadata.labels[Self.tunnelLabel] == "http"
        // Who looks for it looks at the label alone, whatever else is said.
        if configuration.publishesLegacyMTLS, metadata.labels[Self.tlsModeLabel] == "istio" {
            return (.legacyMTLS, isNative)
        }
        let isCaptured = metadata.annotations[MeshLabel.redirection] == MeshLabel.redirectionEnabled
        return (isNative || isCaptured ? .hbone : .none, isNative)
    }
}

/// What telemetry calls a workload.
enum CanonicalName {
    static func name(_ labels: [String: String]) -> String? {
        first(labels, ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
    }

    static func revision(_ labels: [String: String]) -> String {
        first(labels, ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]) ?? "latest"
    }

    private static func first(_ labels: [String: String], _ names: [String]) -> String? {
        names.lazy.compactMap { labels[$0] }.first { !$0.isEmpty }
    }
}
