import Addressing
public import IstioAPI
public import Mesh
import SwiftProtobuf

extension Workload {
    /// The workload of a resource.
    ///
    /// - Throws: ``ConversionError`` for what a proxy must not guess at: unknown tunnels and modes, wrong addresses,
    ///   a gateway without destination, a service key that is none, a missing uid.
    public convenience init(wire: Istio_Workload_Workload) throws(ConversionError) {
        guard !wire.uid.isEmpty else { throw ConversionError("uid", "is missing") }
        var addresses: [IPAddress] = []
        for bytes in wire.addresses { addresses.append(try IPAddress(wire: bytes, "addresses")) }
        var services: [NamespacedHostname: PortMap] = [:]
        for (key, ports) in wire.services {
            guard let name = NamespacedHostname(key) else {
                throw ConversionError("services", "\"\(key.prefix(100))\" is no namespace/hostname")
            }
            var map = PortMap()
            for port in ports.ports {
                map[try WireNumber.port(port.servicePort, "services")] = try WireNumber.port(
                    port.targetPort, "services")
            }
            services[name] = map
        }
        self.init(
            uid: wire.uid, name: wire.name, namespace: wire.namespace, addresses: addresses, hostname: wire.hostname,
            network: wire.network, tunnelProtocol: try Self.tunnelProtocol(wire), trustDomain: wire.trustDomain,
            serviceAccount: wire.serviceAccount, node: wire.node, canonicalName: wire.canonicalName,
            canonicalRevision: wire.canonicalRevision, kind: try Self.kind(wire), workloadName: wire.workloadName,
            nativeTunnel: wire.nativeTunnel, applicationTunnel: try Self.applicationTunnel(wire), services: services,
            authorizationPolicies: wire.authorizationPolicies, status: try Self.status(wire),
            clusterID: wire.clusterID,
            locality: Locality(
                region: wire.locality.region, zone: wire.locality.zone, subzone: wire.locality.subzone),
            networkMode: try Self.networkMode(wire), capacity: wire.hasCapacity ? wire.capacity.value : 1,
            waypoint: wire.hasWaypoint ? try GatewayAddress(wire: wire.waypoint, "waypoint") : nil,
            networkGateway: wire.hasNetworkGateway
                ? try GatewayAddress(wire: wire.networkGateway, "network_gateway") : nil)
    }

    private static func unknown(_ field: String, _ value: Int) -> ConversionError {
        ConversionError(field, "the value \(value) is unknown")
    }

    private static func tunnelProtocol(
        _ wire: Istio_Workload_Workload
    ) throws(ConversionError) -> TunnelProtocol {
        switch wire.tunnelProtocol {
        case .none: return .none
        case .hbone: return .hbone
        case .legacyIstioMtls: throw ConversionError("tunnel_protocol", "LEGACY_ISTIO_MTLS is not spoken here")
        case .UNRECOGNIZED(let value): throw unknown("tunnel_protocol", value)
        }
    }

    private static func kind(_ wire: Istio_Workload_Workload) throws(ConversionError) -> Kind {
        switch wire.workloadType {
        case .deployment: return .deployment
        case .cronjob: return .cronjob
        case .pod: return .pod
        case .job: return .job
        case .UNRECOGNIZED(let value): throw unknown("workload_type", value)
        }
    }

    private static func status(_ wire: Istio_Workload_Workload) throws(ConversionError) -> Status {
        switch wire.status {
        case .healthy: return .healthy
        case .unhealthy: return .unhealthy
        case .UNRECOGNIZED(let value): throw unknown("status", value)
        }
    }

    private static func networkMode(_ wire: Istio_Workload_Workload) throws(ConversionError) -> NetworkMode {
        switch wire.networkMode {
        case .standard: return .standard
        case .hostNetwork: return .hostNetwork
        case .UNRECOGNIZED(let value): throw unknown("network_mode", value)
        }
    }

    private static func applicationTunnel(
        _ wire: Istio_Workload_Workload
    ) throws(ConversionError) -> ApplicationTunnel? {
        guard wire.hasApplicationTunnel else { return nil }
        let port = try WireNumber.port(wire.applicationTunnel.port, "application_tunnel.port")
        switch wire.applicationTunnel.protocol {
        case .none: return ApplicationTunnel(framing: .none, port: port)
        case .proxy: return ApplicationTunnel(framing: .proxy, port: port)
        case .UNRECOGNIZED(let value): throw unknown("application_tunnel.protocol", value)
        }
    }
}

extension Istio_Workload_Workload {
    /// The resource of a workload. Default trust domain and capacity stay empty, as istiod leaves them.
    public init(_ workload: Workload) {
        self.init()
        uid = workload.uid
        name = workload.name
        namespace = workload.namespace
        addresses = workload.addresses.map(\.wire)
        hostname = workload.hostname
        network = workload.network
        tunnelProtocol = workload.tunnelProtocol == .hbone ? .hbone : .none
        trustDomain = workload.trustDomain == Workload.Defaults.trustDomain ? "" : workload.trustDomain
        serviceAccount = workload.serviceAccount
        node = workload.node
        canonicalName = workload.canonicalName
        canonicalRevision = workload.canonicalRevision
        workloadType =
            switch workload.kind {
            case .deployment: .deployment
            case .cronjob: .cronjob
            case .pod: .pod
            case .job: .job
            }
        workloadName = workload.workloadName
        nativeTunnel = workload.nativeTunnel
        if let tunnel = workload.applicationTunnel {
            applicationTunnel.protocol = tunnel.framing == .proxy ? .proxy : .none
            applicationTunnel.port = UInt32(tunnel.port ?? 0)
        }
        for (key, ports) in workload.services {
            var list = Istio_Workload_PortList()
            list.ports = ports.pairs.map { pair in
                var port = Istio_Workload_Port()
                port.servicePort = UInt32(pair.service)
                port.targetPort = UInt32(pair.target)
                return port
            }
            services[key.description] = list
        }
        authorizationPolicies = workload.authorizationPolicies
        status = workload.status == .healthy ? .healthy : .unhealthy
        clusterID = workload.clusterID
        if workload.locality != Locality() {
            locality.region = workload.locality.region
            locality.zone = workload.locality.zone
            locality.subzone = workload.locality.subzone
        }
        networkMode = workload.networkMode == .hostNetwork ? .hostNetwork : .standard
        if workload.capacity != 1 { capacity.value = workload.capacity }
        if let waypoint = workload.waypoint { self.waypoint = Istio_Workload_GatewayAddress(waypoint) }
        if let gateway = workload.networkGateway { networkGateway = Istio_Workload_GatewayAddress(gateway) }
    }
}
