import Addressing
import Mesh

/// A service as the config dump and the local configuration write it.
struct ServiceDocument: Codable {
    enum IPFamilies: String, Codable, CaseIterable {
        case dual = "Dual"
        case v4 = "IPv4"
        case v6 = "IPv6"
    }
    enum Visibility: String, Codable, CaseIterable {
        case everywhere = "Public"
        case namespace = "Namespace"
    }

    struct LoadBalancer: Codable {
        enum Mode: String, Codable, CaseIterable {
            case standard = "Standard"
            case strict = "Strict"
            case failover = "Failover"
            case passthrough = "Passthrough"
        }
        enum Scope: String, Codable, CaseIterable {
            case region = "Region"
            case zone = "Zone"
            case subzone = "Subzone"
            case node = "Node"
            case cluster = "Cluster"
            case network = "Network"
        }
        enum HealthPolicy: String, Codable, CaseIterable {
            case onlyHealthy = "OnlyHealthy"
            case allowAll = "AllowAll"
        }
        var routingPreferences: [Scope]
        var mode: Mode
        var healthPolicy: HealthPolicy

        enum CodingKeys: String, CodingKey, CaseIterable { case routingPreferences, mode, healthPolicy }
    }

    struct Weighted: Codable {
        var destination: GatewayDocument
        var weight: UInt32

        enum CodingKeys: String, CodingKey, CaseIterable { case destination, weight }

        init(_ waypoint: Service.WeightedWaypoint) {
            destination = GatewayDocument(waypoint.destination)
            weight = waypoint.weight
        }

        init(from decoder: any Decoder) throws {
            let fields = try StrictFields<CodingKeys>(decoder)
            destination = try fields.required(.destination)
            weight = try fields.value(.weight, or: 1)
        }
    }

    /// One endpoint: which workload, and where it serves the service's ports.
    struct Endpoint: Codable {
        var workloadUid: String
        var service: String
        var port: [String: UInt16]
        var status: WorkloadDocument.Status

        enum CodingKeys: String, CodingKey, CaseIterable { case workloadUid, service, port, status }

        init(_ workload: Workload, of service: NamespacedHostname) {
            workloadUid = workload.uid
            self.service = service.description
            port = workload.services[service].map(PortsDocument.text) ?? [:]
            status = workload.status == .healthy ? .healthy : .unhealthy
        }

        init(from decoder: any Decoder) throws {
            let fields = try StrictFields<CodingKeys>(decoder)
            workloadUid = try fields.required(.workloadUid)
            service = try fields.value(.service, or: "")
            port = try fields.value(.port, or: [:])
            status = try fields.choice(.status, or: WorkloadDocument.Status.healthy)
        }
    }

    var name: String
    var namespace: String
    var hostname: String
    var vips: [String]
    var cidrVips: [String]
    var ports: [String: UInt16]
    var subjectAltNames: [String]
    var waypoint: GatewayDocument?
    var weightedWaypoints: [Weighted]
    var loadBalancer: LoadBalancer?
    /// Not there: whatever the addresses say.
    var ipFamilies: IPFamilies?
    var canonical: Bool
    var visibility: Visibility
    /// By the workloads' uids.
    var endpoints: [String: Endpoint]

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name, namespace, hostname, vips, cidrVips, ports, subjectAltNames, waypoint, weightedWaypoints
        case loadBalancer, ipFamilies, canonical, visibility, endpoints
    }
}

extension ServiceDocument {
    init(_ service: Service, endpoints members: [Workload]) {
        name = service.name
        namespace = service.namespace
        hostname = service.hostname
        vips = service.addresses.map(\.description)
        cidrVips = service.blocks.map(\.description)
        ports = Dictionary(
            service.ports.map { (String($0.servicePort), $0.targetPort) }, uniquingKeysWith: { first, _ in first })
        subjectAltNames = service.subjectAltNames
        waypoint = service.waypoint.map(GatewayDocument.init)
        weightedWaypoints = service.weightedWaypoints.map(Weighted.init)
        loadBalancer = service.loadBalancing.map(LoadBalancer.init)
        ipFamilies =
            switch service.ipFamilies {
            case .automatic: nil
            case .dual: .dual
            case .v4Only: .v4
            case .v6Only: .v6
            }
        canonical = service.canonical
        visibility = service.visibility == .namespace ? .namespace : .everywhere
        endpoints = Dictionary(
            members.map { ($0.uid, Endpoint($0, of: service.key)) }, uniquingKeysWith: { first, _ in first })
    }

    init(from decoder: any Decoder) throws {
        let fields = try StrictFields<CodingKeys>(decoder)
        name = try fields.required(.name)
        namespace = try fields.required(.namespace)
        hostname = try fields.required(.hostname)
        vips = try fields.value(.vips, or: [])
        cidrVips = try fields.value(.cidrVips, or: [])
        ports = try fields.value(.ports, or: [:])
        subjectAltNames = try fields.value(.subjectAltNames, or: [])
        waypoint = try fields.optional(.waypoint)
        weightedWaypoints = try fields.value(.weightedWaypoints, or: [])
        loadBalancer = try fields.optional(.loadBalancer)
        ipFamilies = try fields.optional(.ipFamilies, String.self).map { text in
            guard let families = IPFamilies(rawValue: text) else {
                throw fields.error(.ipFamilies, "\(text) is none of Dual, IPv4, IPv6")
            }
            return families
        }
        canonical = try fields.value(.canonical, or: false)
        visibility = try fields.choice(.visibility, or: Visibility.everywhere)
        endpoints = try fields.value(.endpoints, or: [:])
        for vip in vips where NetworkAddress(vip) == nil { throw fields.error(.vips, "\(vip) is not network/ip") }
        for vip in cidrVips where Self.block(vip) == nil {
            throw fields.error(.cidrVips, "\(vip) is not network/ip/length")
        }
        guard PortsDocument.map(ports) != nil else {
            throw fields.error(.ports, "the ports are not numbers from 1 to 65535")
        }
    }

    var key: NamespacedHostname { NamespacedHostname(namespace: namespace, hostname: hostname) }

    /// Only of a document that was read, where everything has been checked.
    var service: Service {
        let families: Service.IPFamilies =
            switch ipFamilies {
            case nil: .automatic
            case .dual: .dual
            case .v4: .v4Only
            case .v6: .v6Only
            }
        return Service(
            name: name, namespace: namespace, hostname: hostname, addresses: vips.compactMap { NetworkAddress($0) },
            blocks: cidrVips.compactMap(Self.block),
            ports: (PortsDocument.map(ports) ?? PortMap()).pairs.map { .init($0.service, target: $0.target) },
            subjectAltNames: subjectAltNames, waypoint: waypoint?.gateway,
            weightedWaypoints: weightedWaypoints.compactMap { weighted in
                weighted.destination.gateway.map { .init($0, weight: weighted.weight) }
            }, loadBalancing: loadBalancer?.value, ipFamilies: families, canonical: canonical,
            visibility: visibility == .namespace ? .namespace : .everywhere)
    }

    private static func block(_ text: String) -> NetworkCIDR? {
        guard let slash = text.firstIndex(of: "/"), let cidr = CIDR(String(text[text.index(after: slash)...])) else {
            return nil
        }
        return NetworkCIDR(network: String(text[..<slash]), cidr: cidr)
    }
}

extension ServiceDocument.LoadBalancer {
    init(from decoder: any Decoder) throws {
        let fields = try StrictFields<CodingKeys>(decoder)
        routingPreferences = try fields.value(.routingPreferences, or: [])
        mode = try fields.choice(.mode, or: Mode.standard)
        healthPolicy = try fields.choice(.healthPolicy, or: HealthPolicy.onlyHealthy)
    }

    init(_ balancing: LoadBalancing) {
        routingPreferences = balancing.preferences.map { Scope($0) }
        mode =
            switch balancing.mode {
            case .standard: .standard
            case .strict: .strict
            case .failover: .failover
            case .passthrough: .passthrough
            }
        healthPolicy = balancing.healthPolicy == .allowAll ? .allowAll : .onlyHealthy
    }

    var value: LoadBalancing {
        let mode: LoadBalancing.Mode =
            switch mode {
            case .standard: .standard
            case .strict: .strict
            case .failover: .failover
            case .passthrough: .passthrough
            }
        return LoadBalancing(
            preferences: routingPreferences.map(\.value), mode: mode,
            healthPolicy: healthPolicy == .allowAll ? .allowAll : .onlyHealthy)
    }
}

extension ServiceDocument.LoadBalancer.Scope {
    init(_ scope: LoadBalancing.Scope) {
        self =
            switch scope {
            case .region: .region
            case .zone: .zone
            case .subzone: .subzone
            case .node: .node
            case .cluster: .cluster
            case .network: .network
            }
    }

    var value: LoadBalancing.Scope {
        switch self {
        case .region: .region
        case .zone: .zone
        case .subzone: .subzone
        case .node: .node
        case .cluster: .cluster
        case .network: .network
        }
    }
}
