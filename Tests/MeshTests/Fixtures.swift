import Addressing

@testable import Mesh

/// The same numbers on every run (SplitMix64).
struct FixedRandom: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}

func ip(_ text: String) -> IPAddress { IPAddress(text) ?? .anyV4 }
func endpoint(_ text: String) -> Endpoint { Endpoint(text) ?? Endpoint(.anyV4, 0) }
func key(_ text: String) -> NamespacedHostname {
    NamespacedHostname(text) ?? NamespacedHostname(namespace: "", hostname: text)
}
func at(_ text: String, _ port: UInt16 = 15008) -> GatewayAddress {
    if let name = NamespacedHostname(text), IPAddress(name.hostname) == nil {
        return GatewayAddress(.hostname(name), port: port)
    }
    return GatewayAddress(.address(NetworkAddress(text) ?? NetworkAddress(address: .anyV4)), port: port)
}

/// A pod of the namespace `ns` on node `local`, with what a test cares about set.
func pod(
    _ name: String, _ addresses: [String], namespace: String = "ns", hostname: String = "", network: String = "",
    protocol tunnel: Workload.TunnelProtocol = .hbone, account: String? = nil, node: String = "local",
    tunnel application: Workload.ApplicationTunnel? = nil, services: [String: PortMap] = [:],
    policies: [String] = [], status: Workload.Status = .healthy, locality: Locality = Locality(),
    mode: Workload.NetworkMode = .standard, capacity: UInt32 = 1, waypoint: GatewayAddress? = nil,
    gateway: GatewayAddress? = nil
) -> Workload {
    Workload(
        uid: "Kubernetes//Pod/\(namespace)/\(name)", name: name, namespace: namespace, addresses: addresses.map(ip),
        hostname: hostname, network: network, tunnelProtocol: tunnel, serviceAccount: account ?? name, node: node,
        canonicalName: name, workloadName: name, applicationTunnel: application,
        services: Dictionary(uniqueKeysWithValues: services.map { (key($0.key), $0.value) }),
        authorizationPolicies: policies, status: status, locality: locality, networkMode: mode, capacity: capacity,
        waypoint: waypoint, networkGateway: gateway)
}

/// A service with the host name `<name>.<namespace>`.
func service(
    _ name: String, _ addresses: [String] = [], namespace: String = "ns", blocks: [NetworkCIDR] = [],
    ports: [Service.Port] = [], names: [String] = [], waypoint: GatewayAddress? = nil,
    weighted: [Service.WeightedWaypoint] = [], balancing: LoadBalancing? = nil,
    families: Service.IPFamilies = .automatic, canonical: Bool = false, visibility: Service.Visibility = .everywhere,
    hostname: String? = nil
) -> Service {
    Service(
        name: name, namespace: namespace, hostname: hostname ?? "\(name).\(namespace)",
        addresses: addresses.compactMap { NetworkAddress($0) ?? IPAddress($0).map { NetworkAddress(address: $0) } },
        blocks: blocks, ports: ports, subjectAltNames: names, waypoint: waypoint, weightedWaypoints: weighted,
        loadBalancing: balancing, ipFamilies: families, canonical: canonical, visibility: visibility)
}

func state(
    _ workloads: [Workload], _ services: [Service] = [], settings: MeshSettings = MeshSettings()
) -> MeshState {
    var state = MeshState(settings: settings)
    state.apply(workloads.map(MeshUpdate.workload) + services.map(MeshUpdate.service))
    return state
}

extension MeshState {
    /// The route in one line, so that tables read well: kind, next hop, authority, identities, service.
    func routeLine(
        from source: Workload, to destination: String, resolved: [String: [IPAddress]] = [:], seed: UInt64 = 1
    ) -> String {
        var random = FixedRandom(seed)
        do throws(RouteError) {
            let route = try route(
                from: source, sourceAddress: source.addresses.first ?? .anyV4, to: endpoint(destination),
                resolved: resolved, random: &random)
            return route.line
        } catch {
            return "error \(error.code)"
        }
    }
}

extension Route {
    var line: String {
        func accounts(_ identities: [SPIFFEIdentity]) -> String {
            "[" + identities.map(\.serviceAccount).joined(separator: " ") + "]"
        }
        switch self {
        case .passthrough(let endpoint):
            return "passthrough \(endpoint)"
        case .tcp(let endpoint, let upstream):
            return "tcp \(endpoint)" + (upstream.service.map { " for \($0.name)" } ?? "")
        case .hbone(let route):
            return "hbone \(route.dial) \(route.authority) \(accounts(route.expectedIdentities))"
                + (route.service.map { " for \($0.name)" } ?? "") + (route.isWaypoint ? " waypoint" : "")
        case .doubleHBONE(let route):
            return "double \(route.dial) \(accounts(route.gatewayIdentities)) \(route.authority) "
                + "\(accounts(route.expectedIdentities)) for \(route.service.name)"
        }
    }
}
