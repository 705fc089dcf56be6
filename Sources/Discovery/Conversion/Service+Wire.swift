import Addressing
public import IstioAPI
public import Mesh

extension Service {
    /// The service of a resource.
    ///
    /// - Throws: ``ConversionError`` for wrong addresses, ports and modes. An unknown visibility counts as public, and
    ///   an unknown application protocol is of no interest.
    public convenience init(wire: Istio_Workload_Service) throws(ConversionError) {
        guard !wire.hostname.isEmpty else { throw ConversionError("hostname", "is missing") }
        var addresses: [NetworkAddress] = []
        var blocks: [NetworkCIDR] = []
        for entry in wire.addresses {
            let address = try NetworkAddress(wire: entry, "addresses")
            guard entry.hasLength, Int(entry.length) != address.address.bitWidth else {
                addresses.append(address)
                continue
            }
            guard let block = CIDR(address.address, length: Int(entry.length)) else {
                throw ConversionError("addresses", "the length \(entry.length) does not fit \(address.address)")
            }
            blocks.append(NetworkCIDR(network: entry.network, cidr: block))
        }
        var ports: [Port] = []
        for port in wire.ports {
            ports.append(
                Port(
                    try WireNumber.port(port.servicePort, "ports.service_port"),
                    target: try WireNumber.port(port.targetPort, "ports.target_port"),
                    appProtocol: Self.appProtocol(port.appProtocol)))
        }
        var waypoints: [WeightedWaypoint] = []
        for entry in wire.weightedWaypoints {
            waypoints.append(
                WeightedWaypoint(
                    try GatewayAddress(wire: entry.destination, "weighted_waypoints"), weight: entry.weight))
        }
        self.init(
            name: wire.name, namespace: wire.namespace, hostname: wire.hostname, addresses: addresses, blocks: blocks,
            ports: ports, subjectAltNames: wire.subjectAltNames,
            waypoint: wire.hasWaypoint ? try GatewayAddress(wire: wire.waypoint, "waypoint") : nil,
            weightedWaypoints: waypoints,
            loadBalancing: wire.hasLoadBalancing ? try LoadBalancing(wire: wire.loadBalancing) : nil,
            ipFamilies: try Self.ipFamilies(wire.ipFamilies), canonical: wire.canonical,
            ingressUseWaypoint: wire.ingressUseWaypoint,
            visibility: wire.visibility == .namespace ? .namespace : .everywhere)
    }

    private static func appProtocol(_ wire: Istio_Workload_AppProtocol) -> AppProtocol {
        switch wire {
        case .unknown, .UNRECOGNIZED: .unknown
        case .http11: .http11
        case .http2: .http2
        case .grpc: .grpc
        case .tcp: .tcp
        case .tls: .tls
        }
    }

    private static func ipFamilies(_ wire: Istio_Workload_IPFamilies) throws(ConversionError) -> IPFamilies {
        switch wire {
        case .automatic: return .automatic
        case .ipv4Only: return .v4Only
        case .ipv6Only: return .v6Only
        case .dual: return .dual
        case .UNRECOGNIZED(let value): throw ConversionError("ip_families", "the value \(value) is unknown")
        }
    }
}

extension LoadBalancing {
    init(wire: Istio_Workload_LoadBalancing) throws(ConversionError) {
        var preferences: [Scope] = []
        for scope in wire.routingPreference {
            switch scope {
            case .region: preferences.append(.region)
            case .zone: preferences.append(.zone)
            case .subzone: preferences.append(.subzone)
            case .node: preferences.append(.node)
            case .cluster: preferences.append(.cluster)
            case .network: preferences.append(.network)
            case .unspecifiedScope: throw ConversionError("routing_preference", "a scope is unspecified")
            case .UNRECOGNIZED(let value):
                throw ConversionError("routing_preference", "the value \(value) is unknown")
            }
        }
        let mode: Mode
        switch wire.mode {
        case .unspecifiedMode: mode = .standard
        case .strict: mode = .strict
        case .failover: mode = .failover
        case .passthrough: mode = .passthrough
        case .UNRECOGNIZED(let value):
            throw ConversionError("load_balancing.mode", "the value \(value) is unknown")
        }
        let health: HealthPolicy
        switch wire.healthPolicy {
        case .onlyHealthy: health = .onlyHealthy
        case .allowAll: health = .allowAll
        case .UNRECOGNIZED(let value):
            throw ConversionError("load_balancing.health_policy", "the value \(value) is unknown")
        }
        self.init(preferences: preferences, mode: mode, healthPolicy: health)
    }
}

extension Istio_Workload_Service {
    /// The resource of a service.
    public init(_ service: Service) {
        self.init()
        name = service.name
        namespace = service.namespace
        hostname = service.hostname
        addresses =
            service.addresses.map { Istio_Workload_NetworkAddress($0) }
            + service.blocks.map { Istio_Workload_NetworkAddress($0) }
        ports = service.ports.map { entry in
            var port = Istio_Workload_Port()
            port.servicePort = UInt32(entry.servicePort)
            port.targetPort = UInt32(entry.targetPort)
            port.appProtocol =
                switch entry.appProtocol {
                case .unknown: .unknown
                case .http11: .http11
                case .http2: .http2
                case .grpc: .grpc
                case .tls: .tls
                case .tcp: .tcp
                }
            return port
        }
        subjectAltNames = service.subjectAltNames
        if let waypoint = service.waypoint { self.waypoint = Istio_Workload_GatewayAddress(waypoint) }
        weightedWaypoints = service.weightedWaypoints.map { entry in
            var waypoint = Istio_Workload_WeightedWaypoint()
            waypoint.destination = Istio_Workload_GatewayAddress(entry.destination)
            waypoint.weight = entry.weight
            return waypoint
        }
        if let balancing = service.loadBalancing { loadBalancing = Istio_Workload_LoadBalancing(balancing) }
        ipFamilies =
            switch service.ipFamilies {
            case .automatic: .automatic
            case .v4Only: .ipv4Only
            case .v6Only: .ipv6Only
            case .dual: .dual
            }
        canonical = service.canonical
        ingressUseWaypoint = service.ingressUseWaypoint
        visibility = service.visibility == .namespace ? .namespace : .public
    }
}

extension Istio_Workload_LoadBalancing {
    init(_ balancing: LoadBalancing) {
        self.init()
        routingPreference = balancing.preferences.map { scope in
            switch scope {
            case .region: .region
            case .zone: .zone
            case .subzone: .subzone
            case .node: .node
            case .cluster: .cluster
            case .network: .network
            }
        }
        mode =
            switch balancing.mode {
            case .standard: .unspecifiedMode
            case .strict: .strict
            case .failover: .failover
            case .passthrough: .passthrough
            }
        healthPolicy = balancing.healthPolicy == .allowAll ? .allowAll : .onlyHealthy
    }
}
