import Addressing
import Mesh
import ObjectSource

/// What all translations look at: the settings, the objects but the pods, and tables made of them once.
struct Surroundings {
    /// On the root namespace: the network that all of the cluster's addresses are in.
    static let networkLabel = "topology.istio.io/network"
    static let revisionLabel = "istio.io/rev"

    let configuration: MeshConfiguration
    let objects: ObjectSnapshot
    let network: String
    let waypoints: WaypointTable
    let gateways: NetworkGatewayTable
    let hosts: HostTable

    /// - Parameter gateways: Of other clusters.
    init(_ configuration: MeshConfiguration, _ all: ObjectSnapshot, gateways others: [NetworkGateway] = []) {
        let objects = Self.discovered(configuration, Self.ofRevision(configuration.revision, all))
        self.configuration = configuration
        self.objects = objects
        network = Self.network(configuration, objects)
        waypoints = WaypointTable(objects, network: network)
        gateways = NetworkGatewayTable(objects, cluster: configuration.clusterID, others: others)
        hosts = HostTable(configuration, objects)
    }

    static func network(_ configuration: MeshConfiguration, _ objects: ObjectSnapshot) -> String {
        objects.namespaces[configuration.rootNamespace]?.metadata.labels[networkLabel] ?? ""
    }

    /// Configuration that names another control plane's revision is not for this one.
    private static func ofRevision(_ revision: String, _ all: ObjectSnapshot) -> ObjectSnapshot {
        func isOurs(_ metadata: ObjectMeta) -> Bool {
            metadata.labels[revisionLabel].map { $0.isEmpty || $0 == revision } ?? true
        }
        var objects = all
        // Each pod is translated by itself; what is kept here outlives it.
        objects.pods = [:]
        objects.authorizationPolicies = all.authorizationPolicies.filter { isOurs($0.value.metadata) }
        objects.peerAuthentications = all.peerAuthentications.filter { isOurs($0.value.metadata) }
        objects.serviceEntries = all.serviceEntries.filter { isOurs($0.value.metadata) }
        objects.workloadEntries = all.workloadEntries.filter { isOurs($0.value.metadata) }
        return objects
    }

    /// What lies in namespaces that are not the mesh's is not there. Pods are asked for one by one (``isDiscovered(_:)``).
    private static func discovered(_ configuration: MeshConfiguration, _ all: ObjectSnapshot) -> ObjectSnapshot {
        guard !configuration.discoverySelectors.isEmpty else { return all }
        let names = Set(all.namespaces.keys.filter { configuration.isDiscovered($0, in: all.namespaces) })
        // The root namespace need not be an object itself.
        func isIn(_ name: ObjectName) -> Bool {
            name.namespace == configuration.rootNamespace || names.contains(name.namespace)
        }
        var objects = all
        objects.services = all.services.filter { isIn($0.key) }
        objects.endpointSlices = all.endpointSlices.filter { isIn($0.key) }
        objects.authorizationPolicies = all.authorizationPolicies.filter { isIn($0.key) }
        objects.peerAuthentications = all.peerAuthentications.filter { isIn($0.key) }
        objects.gateways = all.gateways.filter { isIn($0.key) }
        objects.serviceEntries = all.serviceEntries.filter { isIn($0.key) }
        objects.workloadEntries = all.workloadEntries.filter { isIn($0.key) }
        return objects
    }

    func isDiscovered(_ namespace: String) -> Bool {
        configuration.isDiscovered(namespace, in: objects.namespaces)
    }

    /// Where in the world a node is.
    func locality(ofNode name: String) -> Locality {
        guard let labels = objects.nodes[name]?.metadata.labels else { return Locality() }
        return Locality(
            region: labels["topology.kubernetes.io/region"] ?? "", zone: labels["topology.kubernetes.io/zone"] ?? "",
            subzone: labels["topology.istio.io/subzone"] ?? "")
    }

    func key(_ service: ObjectName) -> NamespacedHostname { HostTable.key(service, configuration) }
}
