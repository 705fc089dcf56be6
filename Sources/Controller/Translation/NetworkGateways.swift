import Addressing
import Mesh
import ObjectSource

/// A way into a network by HBONE.
struct NetworkGateway: Hashable, Sendable {
    /// Where it runs, as far as is known: the cluster whose object it is.
    let cluster: String
    let network: String
    let name: ObjectName
    let serviceAccount: String
    let address: GatewayAddress

    /// Without it a proxy would not know whom to expect at the address.
    func workload(_ configuration: MeshConfiguration) -> Workload {
        let (addresses, hostname): ([IPAddress], String) =
            switch address.destination {
            case .address(let address): ([address.address], "")
            case .hostname(let name): ([], name.hostname)
            }
        return Workload(
            uid: uid, name: name.name, namespace: name.namespace,
            addresses: addresses, hostname: hostname, network: network, tunnelProtocol: .hbone,
            trustDomain: configuration.trustDomain, serviceAccount: serviceAccount, canonicalName: name.name,
            canonicalRevision: "latest", kind: .pod, workloadName: name.name, clusterID: cluster)
    }

    var uid: String { "NetworkGateway/\(network)/\(addressText)/\(address.port)" }

    var addressText: String {
        switch address.destination {
        case .address(let address): address.address.description
        case .hostname(let name): name.hostname
        }
    }
}

/// The gateways of all networks that there are any of.
struct NetworkGatewayTable {
    static let remoteClass = "istio-remote"
    static let serviceAccountAnnotation = "gateway.istio.io/service-account"

    /// In order of age and name; other clusters' after this one's. Each way in once.
    let all: [NetworkGateway]
    private let first: [String: NetworkGateway]

    /// - Parameter others: Those of other clusters.
    init(_ objects: ObjectSnapshot, cluster: String, others: [NetworkGateway] = []) {
        let sorted = objects.gateways.values.sorted { left, right in
            let (first, second) = (left.metadata.creationTimestamp ?? .max, right.metadata.creationTimestamp ?? .max)
            return (first, left.metadata.objectName) < (second, right.metadata.objectName)
        }
        var seen: Set<String> = []
        all = (sorted.flatMap { Self.gateways($0, cluster) } + others).filter { seen.insert($0.uid).inserted }
        first = Dictionary(all.map { ($0.network, $0) }) { first, _ in first }
    }

    /// How a network is entered from another one; the first gateway is used.
    func address(of network: String) -> GatewayAddress? { gateway(of: network)?.address }

    func gateway(of network: String) -> NetworkGateway? { network.isEmpty ? nil : first[network] }

    private static func gateways(_ gateway: Gateway, _ cluster: String) -> [NetworkGateway] {
        guard let network = gateway.metadata.labels[Surroundings.networkLabel], !network.isEmpty,
            !gateway.metadata.isBeingDeleted,
            let listener = gateway.listeners.first(where: { $0.protocolName == WaypointTable.hbone })
        else { return [] }
        let name = gateway.metadata.objectName
        // Of a gateway of another cluster only what the user wrote is known.
        let addresses = gateway.className == remoteClass ? gateway.specAddresses : gateway.statusAddresses
        return addresses.compactMap { address in
            let destination: GatewayAddress.Destination
            switch address.kind {
            case .hostname:
                destination = .hostname(NamespacedHostname(namespace: name.namespace, hostname: address.value))
            case .ip:
                guard let ip = IPAddress(address.value) else { return nil }
                destination = .address(NetworkAddress(network: network, address: ip))
            }
            return NetworkGateway(
                cluster: cluster, network: network, name: name,
                serviceAccount: gateway.metadata.annotations[serviceAccountAnnotation] ?? name.name,
                address: GatewayAddress(destination, port: listener.port))
        }
    }
}
