import Addressing
import Mesh
import ObjectSource

/// A pod as a workload of the mesh.
struct WorkloadTranslation {
    private let configuration: MeshConfiguration
    private let network: String
    private let authorizations: PolicyAttachments
    private let peers: PeerAuthenticationTranslation
    /// By namespace: services that select pods.
    private let selecting: [String: [ServiceObject]]
    /// By pod: services without a selector whose slices name it.
    private let naming: [ObjectName: [(uid: String, service: ServiceObject)]]
    private let services: ServiceTranslation

    static let tunnelLabel = "networking.istio.io/tunnel"

    init(
        configuration: MeshConfiguration, network: String, objects: ObjectSnapshot, authorizations: PolicyAttachments,
        peers: PeerAuthenticationTranslation
    ) {
        self.configuration = configuration
        self.authorizations = authorizations
        self.peers = peers
        self.network = network
        services = ServiceTranslation(configuration, network: network)
        let published = objects.services.values.filter { $0.spec.type != .externalName }
        selecting = Dictionary(
            grouping: published.filter { !$0.spec.selector.isEmpty }, by: \.metadata.namespace)
        var naming: [ObjectName: [(uid: String, service: ServiceObject)]] = [:]
        for slice in objects.endpointSlices.values {
            guard let service = EndpointSliceTranslation.service(of: slice, in: objects), service.spec.selector.isEmpty
            else { continue }
            for endpoint in slice.endpoints {
                guard let target = endpoint.target, target.kind == "Pod" else { continue }
                naming[ObjectName(namespace: target.namespace, name: target.name), default: []].append(
                    (target.uid, service))
            }
        }
        self.naming = naming
    }

    /// `nil` for a pod that has ended or has no address yet.
    func workload(_ pod: Pod) -> Workload? {
        let addresses = pod.status.podIPs.compactMap { IPAddress($0) }
        guard pod.status.phase?.isTerminal != true, !addresses.isEmpty else { return nil }
        let labels = pod.metadata.labels
        let (tunnel, isNative) = Self.tunnel(pod)
        let workloadName = WorkloadName.of(pod)
        return Workload(
            uid: "\(configuration.clusterID)//Pod/\(pod.metadata.namespace)/\(pod.metadata.name)",
            name: pod.metadata.name, namespace: pod.metadata.namespace, addresses: addresses, network: network,
            tunnelProtocol: tunnel, trustDomain: configuration.trustDomain,
            serviceAccount: pod.spec.serviceAccountName, node: pod.spec.nodeName,
            canonicalName: Self.first(
                labels, ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]) ?? workloadName,
            canonicalRevision: Self.first(
                labels, ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]) ?? "latest",
            kind: .pod, workloadName: workloadName, nativeTunnel: isNative, services: memberships(pod),
            authorizationPolicies: (authorizations.policies(for: pod) + peers.policies(for: pod)).sorted(),
            status: pod.status.isReady && !pod.metadata.isBeingDeleted ? .healthy : .unhealthy,
            clusterID: configuration.clusterID,
            networkMode: pod.spec.hostNetwork ? .hostNetwork : .standard)
    }

    /// What is reported about the capture decides, never what was asked for.
    private static func tunnel(_ pod: Pod) -> (Workload.TunnelProtocol, isNative: Bool) {
        if pod.metadata.labels[tunnelLabel] == "http" { return (.hbone, true) }
        let isCaptured = pod.metadata.annotations[MeshLabel.redirection] == MeshLabel.redirectionEnabled
        return (isCaptured ? .hbone : .none, false)
    }

    private static func first(_ labels: [String: String], _ names: [String]) -> String? {
        names.lazy.compactMap { labels[$0] }.first { !$0.isEmpty }
    }

    private func memberships(_ pod: Pod) -> [NamespacedHostname: PortMap] {
        var result: [NamespacedHostname: PortMap] = [:]
        for service in selecting[pod.metadata.namespace] ?? []
        where pod.metadata.labels.isMatched(by: service.spec.selector) {
            result[services.key(service.metadata.objectName)] = Self.ports(service, pod)
        }
        for (uid, service) in naming[pod.name] ?? []
        where uid.isEmpty || pod.metadata.uid.isEmpty || uid == pod.metadata.uid {
            result[services.key(service.metadata.objectName)] = Self.ports(service, pod)
        }
        return result
    }

    /// A port whose name the pod does not have is left out: there is nowhere to send its traffic.
    private static func ports(_ service: ServiceObject, _ pod: Pod) -> PortMap {
        var map = PortMap()
        for port in service.spec.ports {
            switch port.target {
            case .number(let number): map[port.port] = number
            case .name(let name):
                let containers = pod.spec.containers + pod.spec.initContainers.filter { $0.restartPolicy == "Always" }
                let found = containers.lazy.flatMap(\.ports).first { $0.name == name && $0.transport == .tcp }
                if let found { map[port.port] = found.port }
            }
        }
        return map
    }
}
