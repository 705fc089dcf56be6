import Mesh

/// Services that several clusters share, and their endpoints beyond this cluster's network.
///
/// Of a service that is here too this cluster's own copy counts; from the others come addresses, accepted identities and
/// endpoints. Endpoints in another network are reached by its gateway, so one workload stands for all of a service there.
struct GlobalServices {
    /// What is published of other clusters' workloads.
    private(set) var workloads: [Workload] = []
    /// Of all services, this cluster's and the others'.
    private(set) var services: [Mesh.Service] = []
    private(set) var warnings: [ClusterWarning] = []

    /// - Parameters:
    ///   - own: This cluster's services.
    ///   - global: Which of them it shares.
    init(
        _ surroundings: Surroundings, own: [Mesh.Service], global: Set<NamespacedHostname>,
        _ remotes: [RemoteContribution]
    ) {
        guard !remotes.isEmpty else {
            services = own
            return
        }
        let near = surroundings.network
        var copies: [NamespacedHostname: [(cluster: String, service: Mesh.Service)]] = [:]
        for service in own where global.contains(service.key) {
            copies[service.key] = [(surroundings.configuration.clusterID, service)]
        }
        services = own.filter { !global.contains($0.key) }
        for remote in remotes {
            for service in remote.services { copies[service.key, default: []].append((remote.id, service)) }
        }
        let all = remotes.flatMap(\.workloads)
        workloads = all.filter { $0.network == near }
        var far: [NamespacedHostname: [String: [Workload]]] = [:]
        for workload in all where workload.network != near {
            for key in workload.services.keys { far[key, default: [:]][workload.network, default: []].append(workload) }
        }
        for (key, copies) in copies {
            let networks = far[key] ?? [:]
            // Who is not captured has no identity to show at the far end.
            let captured = networks.values.joined().filter { $0.tunnelProtocol == .hbone }
            let service = merge(copies, identities: captured.map(\.identity.description))
            services.append(service)
            for (network, endpoints) in networks {
                guard let gateway = surroundings.gateways.gateway(of: network) else {
                    warnings.append(
                        ClusterWarning(
                            service: key.description,
                            message: "its endpoints in network \(network) cannot be reached: the network has no gateway"
                        ))
                    continue
                }
                workloads.append(Self.standIn(for: endpoints, of: service, behind: gateway, surroundings.configuration))
            }
        }
        warnings.sort()
    }

    /// The first copy is this cluster's, if it has one.
    private mutating func merge(
        _ copies: [(cluster: String, service: Mesh.Service)], identities: [String]
    ) -> Mesh.Service {
        let base = copies[0]
        for copy in copies.dropFirst() where Self.ports(copy.service) != Self.ports(base.service) {
            warnings.append(
                ClusterWarning(
                    service: base.service.key.description,
                    message: "its ports in cluster \(copy.cluster) are not those in \(base.cluster), which count"))
        }
        let service = base.service
        // In an order that does not change with that of the clusters; what is this cluster's alone stays as it is.
        let addresses =
            copies.count == 1
            ? service.addresses
            : Set(copies.flatMap(\.service.addresses)).sorted { ($0.network, $0.address) < ($1.network, $1.address) }
        let names = Set(copies.flatMap(\.service.subjectAltNames) + identities)
        return Mesh.Service(
            name: service.name, namespace: service.namespace, hostname: service.hostname, addresses: addresses,
            blocks: service.blocks, ports: service.ports, subjectAltNames: names.sorted(),
            waypoint: service.waypoint, weightedWaypoints: service.weightedWaypoints,
            loadBalancing: service.loadBalancing, ipFamilies: service.ipFamilies, canonical: service.canonical,
            ingressUseWaypoint: service.ingressUseWaypoint, visibility: service.visibility)
    }

    private static func ports(_ service: Mesh.Service) -> Set<[UInt16]> {
        Set(service.ports.map { [$0.servicePort, $0.targetPort] })
    }

    /// One workload in place of all endpoints that a service has in a network. Those that are ready count, as long as one is.
    private static func standIn(
        for endpoints: [Workload], of service: Mesh.Service, behind gateway: NetworkGateway,
        _ configuration: MeshConfiguration
    ) -> Workload {
        let ready = endpoints.filter { $0.status == .healthy }
        let counted = ready.isEmpty ? endpoints : ready
        let capacity = counted.reduce(UInt64(0)) { $0 + UInt64($1.capacity) }
        let uid = "\(gateway.network)/SplitHorizonWorkload/\(gateway.name)/\(gateway.addressText)/\(service.key)"
        return Workload(
            uid: uid, name: uid, namespace: service.namespace, network: gateway.network, tunnelProtocol: .hbone,
            trustDomain: configuration.trustDomain,
            // The port there is the far side's to find; a named one stands for itself.
            services: [
                service.key: PortMap(
                    service.ports.map { ($0.servicePort, $0.targetPort == 0 ? $0.servicePort : $0.targetPort) })
            ],
            status: ready.isEmpty ? .unhealthy : .healthy, clusterID: gateway.cluster,
            capacity: UInt32(clamping: capacity), networkGateway: gateway.address)
    }
}

/// A service of several clusters that is not wholly what its owners may think.
public struct ClusterWarning: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// `namespace/hostname`
    public let service: String
    public let message: String

    public var description: String { "\(service): \(message)" }

    public static func < (left: ClusterWarning, right: ClusterWarning) -> Bool {
        (left.service, left.message) < (right.service, right.message)
    }
}
