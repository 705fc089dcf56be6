import Addressing

/// `istio.workload.Service` as it is read.
struct ServiceWire {
    private var name = ""
    private var namespace = ""
    private var hostname = ""
    private var addresses: [WireParts.Address] = []
    private var ports: [WireParts.Port] = []
    private var subjectAltNames: [String] = []
    private var waypoint: WireParts.Gateway?
    private var weighted: [(gateway: WireParts.Gateway, weight: UInt32)] = []
    private var balancing: Balancing?
    private var ipFamilies = 0
    private var canonical = false
    private var ingressUseWaypoint = false
    private var visibility = 0

    private struct Balancing {
        var preferences: [Int] = []
        var mode = 0
        var health = 0
    }

    mutating func merge(_ cursor: inout WireCursor, _ caches: inout WireCaches)
        throws(ConversionError)
    {
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (1, .length): name = try cursor.string("name")
            case (2, .length): namespace = try cursor.shared("namespace", &caches)
            case (3, .length): hostname = try cursor.shared("hostname", &caches)
            case (4, .length):
                var address = WireParts.Address()
                try cursor.message { (cursor) throws(ConversionError) in try address.merge(&cursor, &caches)
                }
                addresses.append(address)
            case (5, .length):
                var port = WireParts.Port()
                try cursor.message { (cursor) throws(ConversionError) in try port.merge(&cursor) }
                ports.append(port)
            case (6, .length):
                subjectAltNames.append(try cursor.shared("subject_alt_names", &caches))
            case (7, .length):
                var gateway = waypoint ?? WireParts.Gateway()
                try cursor.message { (cursor) throws(ConversionError) in try gateway.merge(&cursor, &caches)
                }
                waypoint = gateway
            case (8, .length):
                var value = balancing ?? Balancing()
                try cursor.message { (cursor) throws(ConversionError) in try Self.merge(&value, &cursor) }
                balancing = value
            case (9, .varint): ipFamilies = try cursor.enumeration()
            case (10, .length): try WireParts.checkExtension(&cursor)
            case (11, .varint): canonical = try cursor.bool()
            case (12, .varint): ingressUseWaypoint = try cursor.bool()
            case (13, .length):
                try cursor.message { (cursor) throws(ConversionError) in try mergeWeighted(&cursor, &caches)
                }
            case (14, .varint): visibility = try cursor.enumeration()
            default: try cursor.skip(field)
            }
        }
    }

    private mutating func mergeWeighted(
        _ cursor: inout WireCursor, _ caches: inout WireCaches
    ) throws(ConversionError) {
        var gateway = WireParts.Gateway()
        var weight: UInt32 = 0
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (1, .length):
                try cursor.message { (cursor) throws(ConversionError) in try gateway.merge(&cursor, &caches)
                }
            case (2, .varint): weight = try cursor.uint32()
            default: try cursor.skip(field)
            }
        }
        weighted.append((gateway, weight))
    }

    private static func merge(_ value: inout Balancing, _ cursor: inout WireCursor)
        throws(ConversionError)
    {
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (1, .varint), (1, .length):
                try cursor.repeated(field.kind) {
                    value.preferences.append(Int(Int32(truncatingIfNeeded: $0)))
                }
            case (2, .varint): value.mode = try cursor.enumeration()
            case (3, .varint): value.health = try cursor.enumeration()
            default: try cursor.skip(field)
            }
        }
    }

    /// An unknown visibility counts as public, and an unknown application protocol is of no interest.
    func value(_ cursor: WireCursor) throws(ConversionError) -> Service {
        guard !hostname.isEmpty else { throw ConversionError("hostname", "is missing") }
        var single: [NetworkAddress] = []
        var blocks: [NetworkCIDR] = []
        for entry in addresses {
            let address = try entry.value(cursor, "addresses")
            guard let length = entry.length, Int(length) != address.address.bitWidth else {
                single.append(address)
                continue
            }
            guard let block = CIDR(address.address, length: Int(length)) else {
                throw ConversionError("addresses", "the length \(length) does not fit \(address.address)")
            }
            blocks.append(NetworkCIDR(network: entry.network, cidr: block))
        }
        var own: [Service.Port] = []
        for port in ports {
            own.append(
                Service.Port(
                    try WireParts.port(port.service, "ports.service_port"),
                    target: try WireParts.port(port.target, "ports.target_port"),
                    appProtocol: Self.appProtocol(port.appProtocol)))
        }
        var waypoints: [Service.WeightedWaypoint] = []
        for entry in weighted {
            waypoints.append(
                Service.WeightedWaypoint(
                    try entry.gateway.value(cursor, "weighted_waypoints"), weight: entry.weight))
        }
        let waypoint = try waypoint.map { (gateway) throws(ConversionError) in
            try gateway.value(cursor, "waypoint")
        }
        return Service(
            name: name, namespace: namespace, hostname: hostname, addresses: single, blocks: blocks,
            ports: own,
            subjectAltNames: subjectAltNames, waypoint: waypoint, weightedWaypoints: waypoints,
            loadBalancing: try balancing.map(Self.value), ipFamilies: try families(),
            canonical: canonical,
            ingressUseWaypoint: ingressUseWaypoint, visibility: visibility == 1 ? .namespace : .everywhere
        )
    }

    private static func appProtocol(_ number: Int) -> Service.AppProtocol {
        switch number {
        case 1: .http11
        case 2: .http2
        case 3: .grpc
        case 4: .tcp
        case 5: .tls
        default: .unknown
        }
    }

    private func families() throws(ConversionError) -> Service.IPFamilies {
        switch ipFamilies {
        case 0: return .automatic
        case 1: return .v4Only
        case 2: return .v6Only
        case 3: return .dual
        default: throw WireParts.unknown("ip_families", ipFamilies)
        }
    }

    private static func value(_ wire: Balancing) throws(ConversionError) -> LoadBalancing {
        var preferences: [LoadBalancing.Scope] = []
        for number in wire.preferences {
            guard number != 0 else {
                throw ConversionError("routing_preference", "a scope is unspecified")
            }
            // The values are those of the wire.
            guard let scope = UInt8(exactly: number).flatMap(LoadBalancing.Scope.init) else {
                throw WireParts.unknown("routing_preference", number)
            }
            preferences.append(scope)
        }
        let mode: LoadBalancing.Mode
        switch wire.mode {
        case 0: mode = .standard
        case 1: mode = .strict
        case 2: mode = .failover
        case 3: mode = .passthrough
        default: throw WireParts.unknown("load_balancing.mode", wire.mode)
        }
        let health: LoadBalancing.HealthPolicy
        switch wire.health {
        case 0: health = .onlyHealthy
        case 1: health = .allowAll
        default: throw WireParts.unknown("load_balancing.health_policy", wire.health)
        }
        return LoadBalancing(preferences: preferences, mode: mode, healthPolicy: health)
    }
}
