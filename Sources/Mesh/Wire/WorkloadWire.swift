import Addressing

/// `istio.workload.Workload` as it is read. What many workloads have in common is told apart first and read only when it
/// was not met before.
struct WorkloadWire {
    private var uid: Range<Int> = 0..<0
    private var name: Range<Int> = 0..<0
    private var hostname: Range<Int> = 0..<0
    private var node: Range<Int> = 0..<0
    /// Nearly always the only one, which needs no array.
    private var address: IPAddress?
    private var furtherAddresses: [IPAddress] = []
    private var wrongAddress: ConversionError?
    private var status = 0
    private var capacity: UInt32?
    private var scratch: Scratch

    /// The fields that many workloads have in common, as they stand.
    struct Scratch: Sendable {
        /// What it serves, which still more have in common.
        var services: [UInt8] = []
        var rest: [UInt8] = []

        mutating func empty() {
            services.removeAll(keepingCapacity: true)
            rest.removeAll(keepingCapacity: true)
        }
    }

    init(_ scratch: Scratch) { self.scratch = scratch }

    mutating func merge(_ cursor: inout WireCursor) throws(ConversionError) {
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (20, .length): try Self.set(&uid, &cursor)
            case (1, .length): try Self.set(&name, &cursor)
            case (21, .length): try Self.set(&hostname, &cursor)
            case (9, .length): try Self.set(&node, &cursor)
            case (17, .varint): status = try cursor.enumeration()
            case (3, .length):
                let range = try cursor.range()
                do {
                    let next = try WireParts.address(cursor.bytes[range], "addresses")
                    if address == nil { address = next } else { furtherAddresses.append(next) }
                } catch {
                    wrongAddress = error
                }
            case (27, .length):
                var value = capacity ?? 0
                try cursor.message { (cursor) throws(ConversionError) in
                    while let field = try cursor.next() {
                        if field.number == 1, field.kind == .varint {
                            value = try cursor.uint32()
                        } else {
                            try cursor.skip(field)
                        }
                    }
                }
                capacity = value
            case (22, .length):
                try cursor.skip(field)
                scratch.services += cursor.bytes[field.start..<cursor.position]
            default:
                try cursor.skip(field)
                scratch.rest += cursor.bytes[field.start..<cursor.position]
            }
        }
    }

    /// Texts are read in the end, those that do not count any more at once: they have to be texts as well.
    private static func set(_ text: inout Range<Int>, _ cursor: inout WireCursor) throws(ConversionError) {
        if !text.isEmpty { _ = try cursor.string(text, "text") }
        text = try cursor.range()
    }

    /// - Parameters:
    ///   - resource: The resource's name, which nearly always is the uid: its storage is used then.
    ///   - resourceBytes: The same as it stands.
    ///
    /// What was merged is used up.
    mutating func value(
        _ cursor: WireCursor, resource: String, at resourceBytes: Range<Int>, _ caches: inout WireCaches
    ) throws(ConversionError) -> Workload {
        guard !uid.isEmpty else { throw ConversionError("uid", "is missing") }
        if let wrongAddress { throw wrongAddress }
        let status: Workload.Status
        switch self.status {
        case 0: status = .healthy
        case 1: status = .unhealthy
        default: throw WireParts.unknown("status", self.status)
        }
        let isResource = WireBytes.areEqual(
            cursor.bytes.span.extracting(resourceBytes), cursor.bytes.span.extracting(uid))
        let addresses =
            if let address, furtherAddresses.isEmpty { AddressList(address) } else {
                AddressList((address.map { [$0] } ?? []) + furtherAddresses)
            }
        var scratch = Scratch()
        swap(&scratch, &self.scratch)
        let boundary = scratch.rest.count
        scratch.rest += scratch.services
        let workload = Workload(
            uid: isResource ? resource : try cursor.string(uid, "uid"), name: try cursor.string(name, "name"),
            addresses: addresses, hostname: try cursor.string(hostname, "hostname"),
            node: try caches.text(cursor.bytes.span.extracting(node), "node"), status: status, capacity: capacity ?? 1,
            traits: try caches.traits(scratch.rest) { (caches) throws(ConversionError) in
                var cursor = WireCursor(scratch.rest)
                cursor.enter(0..<boundary)
                var traits = WorkloadTraitsWire()
                try traits.merge(&cursor, &caches)
                let services = try caches.services(scratch.rest[boundary...]) { (caches) throws(ConversionError) in
                    cursor.enter(boundary..<cursor.bytes.count)
                    return try WorkloadTraitsWire.services(&cursor, &caches)
                }
                return try traits.value(cursor, services)
            })
        caches.giveBack(&scratch)
        return workload
    }
}

/// The fields of `istio.workload.Workload` that many have in common.
private struct WorkloadTraitsWire {
    private var namespace = ""
    private var network = ""
    private var tunnelProtocol = 0
    private var trustDomain = ""
    private var serviceAccount = ""
    private var canonicalName = ""
    private var canonicalRevision = ""
    private var kind = 0
    private var workloadName = ""
    private var nativeTunnel = false
    private var applicationTunnel: (framing: Int, port: UInt32)?
    private var policies: [String] = []
    private var clusterID = ""
    private var locality = (region: "", zone: "", subzone: "")
    private var networkMode = 0
    private var waypoint: WireParts.Gateway?
    private var networkGateway: WireParts.Gateway?

    mutating func merge(_ cursor: inout WireCursor, _ caches: inout WireCaches)
        throws(ConversionError)
    {
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (2, .length): namespace = try cursor.shared("namespace", &caches)
            case (4, .length): network = try cursor.shared("network", &caches)
            case (5, .varint): tunnelProtocol = try cursor.enumeration()
            case (6, .length): trustDomain = try cursor.shared("trust_domain", &caches)
            case (7, .length): serviceAccount = try cursor.shared("service_account", &caches)
            case (8, .length): try Self.gateway(&waypoint, &cursor, &caches)
            case (10, .length): canonicalName = try cursor.shared("canonical_name", &caches)
            case (11, .length): canonicalRevision = try cursor.shared("canonical_revision", &caches)
            case (12, .varint): kind = try cursor.enumeration()
            case (13, .length): workloadName = try cursor.shared("workload_name", &caches)
            case (14, .varint): nativeTunnel = try cursor.bool()
            case (16, .length):
                policies.append(try cursor.shared("authorization_policies", &caches))
            case (18, .length): clusterID = try cursor.shared("cluster_id", &caches)
            case (19, .length): try Self.gateway(&networkGateway, &cursor, &caches)
            case (23, .length): try mergeApplicationTunnel(&cursor)
            case (24, .length): try mergeLocality(&cursor, &caches)
            case (25, .varint): networkMode = try cursor.enumeration()
            case (26, .length): try WireParts.checkExtension(&cursor)
            default: try cursor.skip(field)
            }
        }
    }

    private static func gateway(
        _ gateway: inout WireParts.Gateway?, _ cursor: inout WireCursor, _ caches: inout WireCaches
    ) throws(ConversionError) {
        var value = gateway ?? WireParts.Gateway()
        try cursor.message { (cursor) throws(ConversionError) in try value.merge(&cursor, &caches) }
        gateway = value
    }

    /// The map's entries and nothing else, as ``WorkloadWire`` has put them apart.
    static func services(
        _ cursor: inout WireCursor, _ caches: inout WireCaches
    ) throws(ConversionError) -> [NamespacedHostname: PortMap] {
        var services: [NamespacedHostname: PortMap] = [:]
        while try cursor.next() != nil {
            let (name, ports) = try service(&cursor, &caches)
            services[name] = ports
        }
        return services
    }

    /// An entry of the map: `namespace/hostname` and its ports.
    private static func service(
        _ cursor: inout WireCursor, _ caches: inout WireCaches
    ) throws(ConversionError) -> (NamespacedHostname, PortMap) {
        var key = 0..<0
        var ports = PortMap()
        try cursor.message { (cursor) throws(ConversionError) in
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .length):
                    // One that does not count any more has to be a text as well.
                    if !key.isEmpty { _ = try cursor.string(key, "services") }
                    key = try cursor.range()
                case (2, .length):
                    try cursor.message { (cursor) throws(ConversionError) in try Self.merge(&ports, &cursor) }
                default: try cursor.skip(field)
                }
            }
        }
        // A slash is never part of another character, so both parts are texts where the whole is one.
        let slash = UInt8(ascii: "/")
        guard let cut = cursor.bytes[key].firstIndex(of: slash), cut > key.lowerBound, cut + 1 < key.upperBound,
            !cursor.bytes[(cut + 1)..<key.upperBound].contains(slash)
        else {
            throw ConversionError(
                "services", "\"\(try cursor.string(key, "services").prefix(100))\" is no namespace/hostname")
        }
        return (
            NamespacedHostname(
                namespace: try caches.text(cursor.bytes.span.extracting(key.lowerBound..<cut), "services"),
                hostname: try caches.text(cursor.bytes.span.extracting((cut + 1)..<key.upperBound), "services")),
            ports
        )
    }

    private static func merge(_ ports: inout PortMap, _ cursor: inout WireCursor)
        throws(ConversionError)
    {
        while let field = try cursor.next() {
            guard field.number == 1, field.kind == .length else {
                try cursor.skip(field)
                continue
            }
            var port = WireParts.Port()
            try cursor.message { (cursor) throws(ConversionError) in try port.merge(&cursor) }
            ports[try WireParts.port(port.service, "services")] = try WireParts.port(
                port.target, "services")
        }
    }

    private mutating func mergeApplicationTunnel(_ cursor: inout WireCursor) throws(ConversionError) {
        var value = applicationTunnel ?? (0, 0)
        try cursor.message { (cursor) throws(ConversionError) in
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .varint): value.framing = try cursor.enumeration()
                case (2, .varint): value.port = try cursor.uint32()
                default: try cursor.skip(field)
                }
            }
        }
        applicationTunnel = value
    }

    private mutating func mergeLocality(
        _ cursor: inout WireCursor, _ caches: inout WireCaches
    ) throws(ConversionError) {
        var value = locality
        try cursor.message { (cursor) throws(ConversionError) in
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .length): value.region = try cursor.shared("locality.region", &caches)
                case (2, .length): value.zone = try cursor.shared("locality.zone", &caches)
                case (3, .length): value.subzone = try cursor.shared("locality.subzone", &caches)
                default: try cursor.skip(field)
                }
            }
        }
        locality = value
    }

    func value(
        _ cursor: WireCursor, _ services: [NamespacedHostname: PortMap]
    ) throws(ConversionError) -> WorkloadTraits {
        WorkloadTraits(
            namespace: namespace, network: network, tunnelProtocol: try tunnel(),
            trustDomain: trustDomain,
            serviceAccount: serviceAccount, canonicalName: canonicalName,
            canonicalRevision: canonicalRevision,
            kind: try workloadKind(), workloadName: workloadName, nativeTunnel: nativeTunnel,
            applicationTunnel: try tunnelOfApplication(), services: services,
            authorizationPolicies: policies,
            clusterID: clusterID,
            locality: Locality(region: locality.region, zone: locality.zone, subzone: locality.subzone),
            networkMode: try mode(),
            waypoint: try waypoint.map { (gateway) throws(ConversionError) in
                try gateway.value(cursor, "waypoint")
            },
            networkGateway: try networkGateway.map { (gateway) throws(ConversionError) in
                try gateway.value(cursor, "network_gateway")
            })
    }

    private func tunnel() throws(ConversionError) -> Workload.TunnelProtocol {
        switch tunnelProtocol {
        case 0: return .none
        case 1: return .hbone
        case 2: throw ConversionError("tunnel_protocol", "LEGACY_ISTIO_MTLS is not spoken here")
        default: throw WireParts.unknown("tunnel_protocol", tunnelProtocol)
        }
    }

    private func workloadKind() throws(ConversionError) -> Workload.Kind {
        switch kind {
        case 0: return .deployment
        case 1: return .cronjob
        case 2: return .pod
        case 3: return .job
        default: throw WireParts.unknown("workload_type", kind)
        }
    }

    private func mode() throws(ConversionError) -> Workload.NetworkMode {
        switch networkMode {
        case 0: return .standard
        case 1: return .hostNetwork
        default: throw WireParts.unknown("network_mode", networkMode)
        }
    }

    private func tunnelOfApplication() throws(ConversionError) -> Workload.ApplicationTunnel? {
        guard let (framing, number) = applicationTunnel else { return nil }
        let port = try WireParts.port(number, "application_tunnel.port")
        switch framing {
        case 0: return Workload.ApplicationTunnel(framing: .none, port: port)
        case 1: return Workload.ApplicationTunnel(framing: .proxy, port: port)
        default: throw WireParts.unknown("application_tunnel.protocol", framing)
        }
    }
}
