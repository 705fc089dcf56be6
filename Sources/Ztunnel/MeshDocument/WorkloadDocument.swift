import Addressing
import Mesh

/// A workload as the config dump and the local configuration write it.
struct WorkloadDocument: Codable {
    enum TunnelProtocol: String, Codable, CaseIterable {
        case hbone = "HBONE"
        case tcp = "TCP"
    }
    enum NetworkMode: String, Codable, CaseIterable {
        case standard = "Standard"
        case hostNetwork = "HostNetwork"
    }
    enum Status: String, Codable, CaseIterable {
        case healthy = "Healthy"
        case unhealthy = "Unhealthy"
    }
    enum Kind: String, Codable, CaseIterable { case deployment, cronjob, pod, job }

    struct Locality: Codable {
        var region: String
        var zone: String
        var subzone: String

        enum CodingKeys: String, CodingKey, CaseIterable { case region, zone, subzone }

        init(_ locality: Mesh.Locality) {
            region = locality.region
            zone = locality.zone
            subzone = locality.subzone
        }

        init(from decoder: any Decoder) throws {
            let fields = try StrictFields<CodingKeys>(decoder)
            region = try fields.value(.region, or: "")
            zone = try fields.value(.zone, or: "")
            subzone = try fields.value(.subzone, or: "")
        }
    }

    struct ApplicationTunnel: Codable {
        enum Framing: String, Codable, CaseIterable {
            case none = "NONE"
            case proxy = "PROXY"
        }
        var `protocol`: Framing
        var port: UInt16?

        enum CodingKeys: String, CodingKey, CaseIterable { case `protocol`, port }

        init(_ tunnel: Workload.ApplicationTunnel) {
            self.protocol = tunnel.framing == .proxy ? .proxy : .none
            port = tunnel.port
        }

        init(from decoder: any Decoder) throws {
            let fields = try StrictFields<CodingKeys>(decoder)
            self.protocol = try fields.choice(.protocol, or: Framing.none)
            port = try fields.optional(.port)
        }

        var value: Workload.ApplicationTunnel { .init(framing: self.protocol == .proxy ? .proxy : .none, port: port) }
    }

    var uid: String
    var workloadIps: [String]
    var waypoint: GatewayDocument?
    var networkGateway: GatewayDocument?
    var `protocol`: TunnelProtocol
    var networkMode: NetworkMode
    var name: String
    var namespace: String
    var trustDomain: String
    var serviceAccount: String
    var network: String
    var workloadName: String
    var workloadType: Kind
    var canonicalName: String
    var canonicalRevision: String
    var hostname: String
    var node: String
    var nativeTunnel: Bool
    var applicationTunnel: ApplicationTunnel?
    var authorizationPolicies: [String]
    var status: Status
    var clusterId: String
    var locality: Locality
    /// By `namespace/hostname`: service ports and the ports they are served on.
    var services: [String: [String: UInt16]]
    var capacity: UInt32

    enum CodingKeys: String, CodingKey, CaseIterable {
        case uid, workloadIps, waypoint, networkGateway, `protocol`, networkMode, name, namespace, trustDomain
        case serviceAccount, network, workloadName, workloadType, canonicalName, canonicalRevision, hostname, node
        case nativeTunnel, applicationTunnel, authorizationPolicies, status, clusterId, locality, services, capacity
    }
}

extension WorkloadDocument {
    init(_ workload: Workload) {
        uid = workload.uid
        workloadIps = workload.addresses.map(\.description)
        waypoint = workload.waypoint.map(GatewayDocument.init)
        networkGateway = workload.networkGateway.map(GatewayDocument.init)
        self.protocol = workload.tunnelProtocol == .hbone ? .hbone : .tcp
        networkMode = workload.networkMode == .hostNetwork ? .hostNetwork : .standard
        name = workload.name
        namespace = workload.namespace
        trustDomain = workload.trustDomain
        serviceAccount = workload.serviceAccount
        network = workload.network
        workloadName = workload.workloadName
        workloadType = Kind(workload.kind)
        canonicalName = workload.canonicalName
        canonicalRevision = workload.canonicalRevision
        hostname = workload.hostname
        node = workload.node
        nativeTunnel = workload.nativeTunnel
        applicationTunnel = workload.applicationTunnel.map(ApplicationTunnel.init)
        authorizationPolicies = workload.authorizationPolicies
        status = workload.status == .healthy ? .healthy : .unhealthy
        clusterId = workload.clusterID
        locality = Locality(workload.locality)
        services = Dictionary(
            uniqueKeysWithValues: workload.services.map { ($0.description, PortsDocument.text($1)) })
        capacity = workload.capacity
    }

    init(from decoder: any Decoder) throws {
        let fields = try StrictFields<CodingKeys>(decoder)
        uid = try fields.required(.uid)
        workloadIps = try fields.value(.workloadIps, or: [])
        waypoint = try fields.optional(.waypoint)
        networkGateway = try fields.optional(.networkGateway)
        self.protocol = try fields.choice(.protocol, or: TunnelProtocol.tcp)
        networkMode = try fields.choice(.networkMode, or: NetworkMode.standard)
        name = try fields.required(.name)
        namespace = try fields.required(.namespace)
        trustDomain = try fields.value(.trustDomain, or: "")
        serviceAccount = try fields.value(.serviceAccount, or: "")
        network = try fields.value(.network, or: "")
        workloadName = try fields.value(.workloadName, or: "")
        workloadType = try fields.choice(.workloadType, or: Kind.deployment)
        canonicalName = try fields.value(.canonicalName, or: "")
        canonicalRevision = try fields.value(.canonicalRevision, or: "")
        hostname = try fields.value(.hostname, or: "")
        node = try fields.value(.node, or: "")
        nativeTunnel = try fields.value(.nativeTunnel, or: false)
        applicationTunnel = try fields.optional(.applicationTunnel)
        authorizationPolicies = try fields.value(.authorizationPolicies, or: [])
        status = try fields.choice(.status, or: Status.healthy)
        clusterId = try fields.value(.clusterId, or: "")
        locality = try fields.optional(.locality) ?? Locality(Mesh.Locality())
        services = try fields.required(.services)
        capacity = try fields.value(.capacity, or: 1)
        for address in workloadIps where IPAddress(address) == nil {
            throw fields.error(.workloadIps, "\(address) is no IP address")
        }
        for (service, ports) in services {
            guard NamespacedHostname(service) != nil else {
                throw fields.error(.services, "\(service) is not namespace/hostname")
            }
            guard PortsDocument.map(ports) != nil else {
                throw fields.error(.services, "\(service): the ports are not numbers from 1 to 65535")
            }
        }
        guard !uid.isEmpty else { throw fields.error(.uid, "is empty") }
    }

    /// Only of a document that was read, where everything has been checked.
    var workload: Workload {
        Workload(
            uid: uid, name: name, namespace: namespace, addresses: workloadIps.compactMap { IPAddress($0) },
            hostname: hostname, network: network, tunnelProtocol: self.protocol == .hbone ? .hbone : .none,
            trustDomain: trustDomain, serviceAccount: serviceAccount, node: node, canonicalName: canonicalName,
            canonicalRevision: canonicalRevision, kind: workloadType.value, workloadName: workloadName,
            nativeTunnel: nativeTunnel, applicationTunnel: applicationTunnel?.value,
            services: Dictionary(
                services.compactMap { key, ports in
                    guard let name = NamespacedHostname(key), let map = PortsDocument.map(ports) else { return nil }
                    return (name, map)
                }, uniquingKeysWith: { first, _ in first }),
            authorizationPolicies: authorizationPolicies, status: status == .healthy ? .healthy : .unhealthy,
            clusterID: clusterId,
            locality: Mesh.Locality(region: locality.region, zone: locality.zone, subzone: locality.subzone),
            networkMode: networkMode == .hostNetwork ? .hostNetwork : .standard, capacity: capacity,
            waypoint: waypoint?.gateway, networkGateway: networkGateway?.gateway)
    }
}

extension WorkloadDocument.Kind {
    init(_ kind: Workload.Kind) {
        self =
            switch kind {
            case .deployment: .deployment
            case .cronjob: .cronjob
            case .pod: .pod
            case .job: .job
            }
    }

    var value: Workload.Kind {
        switch self {
        case .deployment: .deployment
        case .cronjob: .cronjob
        case .pod: .pod
        case .job: .job
        }
    }
}

/// Ports by their number as text, as JSON has it.
enum PortsDocument {
    static func text(_ map: PortMap) -> [String: UInt16] {
        Dictionary(uniqueKeysWithValues: map.pairs.map { (String($0.service), $0.target) })
    }

    static func map(_ ports: [String: UInt16]) -> PortMap? {
        var map = PortMap()
        for (service, target) in ports {
            guard let port = UInt16(service), port > 0 else { return nil }
            map[port] = target
        }
        return map
    }
}
