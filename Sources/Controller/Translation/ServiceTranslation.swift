import Addressing
import Mesh
import ObjectSource

/// A Kubernetes service as a service of the mesh.
struct ServiceTranslation {
    private let surroundings: Surroundings

    init(_ surroundings: Surroundings) { self.surroundings = surroundings }

    static let trafficDistribution = "networking.istio.io/traffic-distribution"

    /// `nil` for a service that is only a name for something outside.
    func service(_ object: ServiceObject) -> Mesh.Service? {
        guard object.spec.type != .externalName else { return nil }
        let namespace = surroundings.objects.namespaces[object.metadata.namespace]
        let attachment = surroundings.waypoints.attachment(of: object.metadata, as: .service)
        let key = surroundings.key(object.metadata.objectName)
        return Mesh.Service(
            name: object.metadata.name, namespace: object.metadata.namespace,
            hostname: key.hostname,
            addresses: object.spec.clusterIPs.compactMap { IPAddress($0) }.map {
                NetworkAddress(network: surroundings.network, address: $0)
            },
            ports: object.spec.ports.map { port in
                Mesh.Service.Port(
                    port.port, target: Self.target(port),
                    appProtocol: port.transport == .tcp ? Self.appProtocol(port) : .unknown)
            },
            waypoint: attachment.waypoint?.address, weightedWaypoints: attachment.weighted,
            loadBalancing: Self.loadBalancing(object, namespace), ipFamilies: Self.families(object.spec.ipFamilies),
            canonical: true, ingressUseWaypoint: surroundings.waypoints.takesIngress(object.metadata))
    }

    /// 0 for a named port: each workload has its own.
    private static func target(_ port: ServicePort) -> UInt16 {
        switch port.target {
        case .number(let number): number
        case .name: 0
        }
    }

    /// By `appProtocol`, else by the port's name up to the first hyphen.
    static func appProtocol(_ port: ServicePort) -> Mesh.Service.AppProtocol {
        let word =
            port.appProtocol.isEmpty
            ? port.name.split(separator: "-", maxSplits: 1).first.map(String.init) ?? ""
            : port.appProtocol
        switch word.lowercased() {
        // A name of two words that begins like gRPC and is something else.
        case "grpc" where port.appProtocol.isEmpty && port.name.lowercased().hasPrefix("grpc-web"): return .unknown
        case "http", "kubernetes.io/ws": return .http11
        case "http2", "kubernetes.io/h2c": return .http2
        case "grpc": return .grpc
        case "tls", "https", "kubernetes.io/wss": return .tls
        case "tcp": return .tcp
        default: return .unknown
        }
    }

    private static func families(_ families: [ServiceSpec.IPFamily]) -> Mesh.Service.IPFamilies {
        switch Set(families) {
        case [.v4]: .v4Only
        case [.v6]: .v6Only
        case [.v4, .v6]: .dual
        default: .automatic
        }
    }

    private static func loadBalancing(_ object: ServiceObject, _ namespace: Namespace?) -> LoadBalancing? {
        let health: LoadBalancing.HealthPolicy = object.spec.publishNotReadyAddresses ? .allowAll : .onlyHealthy
        if object.spec.internalTrafficPolicy == .local {
            return LoadBalancing(preferences: [.node], mode: .strict, healthPolicy: health)
        }
        let wish = object.spec.trafficDistribution
        return loadBalancing(wish: wish.isEmpty ? distribution(object.metadata, namespace) : wish, health: health)
    }

    /// By annotation, of the object or else of its namespace.
    static func distribution(_ object: ObjectMeta, _ namespace: Namespace?) -> String? {
        object.annotations[trafficDistribution] ?? namespace?.metadata.annotations[trafficDistribution]
    }

    static func loadBalancing(wish: String?, health: LoadBalancing.HealthPolicy) -> LoadBalancing? {
        switch wish?.lowercased() {
        case "preferclose", "prefersamezone":
            return LoadBalancing(
                preferences: [.network, .region, .zone], mode: .failover, healthPolicy: health)
        case "prefersamenode":
            return LoadBalancing(
                preferences: [.network, .region, .zone, .subzone, .node], mode: .failover, healthPolicy: health)
        default:
            return health == .allowAll ? LoadBalancing(healthPolicy: health) : nil
        }
    }
}
