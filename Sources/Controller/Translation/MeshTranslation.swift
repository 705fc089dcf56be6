public import Discovery
import Mesh
public import ObjectSource

/// Objects as resources of the mesh: a pure function.
public struct MeshTranslation: Sendable {
    public struct Outcome: Sendable {
        /// In order of type and name.
        public var resources: [MeshResource]
        public var warnings: [PolicyWarning]
    }

    let configuration: MeshConfiguration

    public init(_ configuration: MeshConfiguration = MeshConfiguration()) { self.configuration = configuration }

    /// On the root namespace: the network that all of the cluster's addresses are in.
    static let networkLabel = "topology.istio.io/network"

    public func resources(of objects: ObjectSnapshot) -> Outcome {
        let authorizations = AuthorizationTranslation(configuration).policies(of: objects)
        let peers = PeerAuthenticationTranslation(configuration, objects)
        let network = objects.namespaces[configuration.rootNamespace]?.metadata.labels[Self.networkLabel] ?? ""
        let workloads = WorkloadTranslation(
            configuration: configuration, network: network, objects: objects,
            authorizations: authorizations.attachments, peers: peers)
        let services = ServiceTranslation(configuration, network: network)

        var resources: [MeshResource] = []
        resources += authorizations.policies.map { .policy($0) }
        resources += peers.policies.map { .policy($0) }
        resources += objects.services.values.compactMap { service in
            services.service(service, namespace: objects.namespaces[service.metadata.namespace])
        }.map { .service($0) }
        resources += objects.pods.values.compactMap { workloads.workload($0) }.map { .workload($0) }
        resources += EndpointSliceTranslation(configuration, network: network).workloads(of: objects).map {
            .workload($0)
        }
        return Outcome(
            resources: resources.sorted { ($0.typeURL, $0.name) < ($1.typeURL, $1.name) },
            warnings: authorizations.warnings.sorted())
    }
}
