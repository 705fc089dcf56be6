import Addressing
public import IstioAPI
public import Mesh

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
