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

    init(_ configuration: MeshConfiguration, _ all: ObjectSnapshot) {
        let objects = Self.ofRevision(configuration.revision, all)
        self.configuration = configuration
        self.objects = objects
        network = objects.namespaces[configuration.rootNamespace]?.metadata.labels[Self.networkLabel] ?? ""
        waypoints = WaypointTable(objects, network: network)
        gateways = NetworkGatewayTable(objects)
        hosts = HostTable(configuration, objects)
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

    /// Where in the world a node is.
    func locality(ofNode name: String) -> Locality {
        guard let labels = objects.nodes[name]?.metadata.labels else { return Locality() }
        return Locality(
            region: labels["topology.kubernetes.io/region"] ?? "", zone: labels["topology.kubernetes.io/zone"] ?? "",
            subzone: labels["topology.istio.io/subzone"] ?? "")
    }

    func key(_ service: ObjectName) -> NamespacedHostname { HostTable.key(service, configuration) }
}
