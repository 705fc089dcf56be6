import Addressing
public import IstioAPI
public import Mesh
import SwiftProtobuf

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
        tunnelProtocol =
            switch workload.tunnelProtocol {
            case .none: .none
            case .hbone: .hbone
            case .legacyMTLS: .legacyIstioMtls
            }
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
