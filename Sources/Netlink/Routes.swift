import Addressing

/// A route with one next hop.
public struct Route: Hashable, Sendable {
    /// What the route does with a packet; the kernel's numbers (`RTN_…`).
    public enum Kind: UInt8, Sendable {
        case unicast = 1
        case local = 2
        case broadcast = 3
        case anycast = 4
        case multicast = 5
        case blackhole = 6
        case unreachable = 7
        case prohibit = 8
    }

    /// How far the destination is; the kernel's numbers (`RT_SCOPE_…`). IPv6 knows `universe` only.
    public enum Scope: UInt8, Sendable { case universe = 0, site = 200, link = 253, host = 254, nowhere = 255 }

    public static let mainTable: UInt32 = 254
    public static let localTable: UInt32 = 255

    public var kind: Kind
    /// The destination; a default route names the family's whole space.
    public var destination: CIDR
    public var gateway: IPAddress?
    /// Index of the interface packets leave by.
    public var interface: UInt32?
    public var table: UInt32
    public var scope: Scope
    /// Who made it (`RTPROT_…`): 2 the kernel, 3 at boot, 4 an administrator.
    public var origin: UInt8
    public var preferredSource: IPAddress?
    /// The priority among equal destinations; `nil` is the kernel's default.
    public var metric: UInt32?

    public init(
        _ kind: Kind = .unicast, to destination: CIDR, via gateway: IPAddress? = nil, interface: UInt32? = nil,
        table: UInt32 = Route.mainTable, scope: Scope? = nil, origin: UInt8 = 4, preferredSource: IPAddress? = nil,
        metric: UInt32? = nil
    ) {
        self.kind = kind
        self.destination = destination
        self.gateway = gateway
        self.interface = interface
        self.table = table
        self.scope =
            scope
            ?? (destination.base.family == .v6
                ? .universe
                : kind == .local ? .host : gateway == nil && kind == .unicast ? .link : .universe)
        self.origin = origin
        self.preferredSource = preferredSource
        self.metric = metric
    }

    public var family: IPAddress.Family { destination.base.family }

    /// `0.0.0.0/0` or `::/0`.
    public static func everywhere(_ family: IPAddress.Family) -> CIDR {
        // The length is always legal, so the fallback is never used.
        CIDR(family == .v4 ? .anyV4 : .anyV6, length: 0) ?? CIDR(family == .v4 ? .anyV4 : .anyV6)
    }
}

extension Route: CustomStringConvertible {
    public var description: String {
        var text = "\(kind) \(destination)"
        if let gateway { text += " via \(gateway)" }
        if let interface { text += " interface \(interface)" }
        return text + " table \(table)"
    }
}

extension RouteSocket {
    /// Adds a route.
    public mutating func add(_ route: Route, existing: Existing = .refuse) throws(NetlinkError) {
        let message = NetlinkSocket.Message(type: Kind.newRoute, flags: existing.flags, body: encode(route))
        try socket.request(message, "add route \(route)")
    }

    /// Deletes a route; one that is not there is an error (ESRCH).
    public mutating func delete(_ route: Route) throws(NetlinkError) {
        try socket.request(
            NetlinkSocket.Message(type: Kind.deleteRoute, body: encode(route)), "delete route \(route)")
    }

    /// The routes of one table, or of all. Routes with several next hops are listed with none.
    public mutating func routes(
        _ family: IPAddress.Family, table: UInt32? = nil
    ) throws(NetlinkError) -> [Route] {
        var writer = AttributeWriter()
        writer.header([family.kernelNumber, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        if let table { writer.put(Attribute.table, u32: table) }
        var found: [Route] = []
        do throws(NetlinkError) {
            try socket.dump(
                NetlinkSocket.Message(type: Kind.getRoute, body: writer.bytes), "list routes",
                reset: { found = [] },
                each: { _, body in if let route = Self.decodeRoute(body) { found.append(route) } })
        } catch {
            // A table that was never used is reported as missing: it holds no route.
            if error.code == 2, table != nil { return [] }
            throw error
        }
        return found.filter { $0.family == family && (table == nil || $0.table == table) }
    }

    private enum Kind {
        static let newRoute: UInt16 = 24
        static let deleteRoute: UInt16 = 25
        static let getRoute: UInt16 = 26
    }

    private enum Attribute {
        static let destination = 1
        static let interface = 4
        static let gateway = 5
        static let metric = 6
        static let preferredSource = 7
        static let table = 15
    }

    private func encode(_ route: Route) -> [UInt8] {
        var writer = AttributeWriter()
        let table = route.table < 256 ? UInt8(route.table) : 0
        writer.header(
            [
                route.family.kernelNumber, UInt8(route.destination.length), 0, 0, table, route.origin,
                route.scope.rawValue, route.kind.rawValue, 0, 0, 0, 0,
            ])
        if route.destination.length > 0 { writer.put(Attribute.destination, route.destination.base.bytes) }
        if let gateway = route.gateway { writer.put(Attribute.gateway, gateway.bytes) }
        if let interface = route.interface { writer.put(Attribute.interface, u32: interface) }
        if let source = route.preferredSource { writer.put(Attribute.preferredSource, source.bytes) }
        if let metric = route.metric { writer.put(Attribute.metric, u32: metric) }
        writer.put(Attribute.table, u32: route.table)
        return writer.bytes
    }

    private static func decodeRoute(_ body: ArraySlice<UInt8>) -> Route? {
        guard body.count >= 12 else { return nil }
        let header = Array(body.prefix(12))
        guard let family = IPAddress.Family(kernelNumber: header[0]), let kind = Route.Kind(rawValue: header[7]) else {
            return nil
        }
        let attributes = Attributes(body.dropFirst(12))
        let base =
            attributes[Attribute.destination].flatMap { IPAddress(bytes: $0) }
            ?? (family == .v4 ? IPAddress.anyV4 : .anyV6)
        guard let destination = CIDR(base, length: Int(header[1])) else { return nil }
        return Route(
            kind, to: destination, via: attributes[Attribute.gateway].flatMap { IPAddress(bytes: $0) },
            interface: attributes.u32(Attribute.interface), table: attributes.u32(Attribute.table) ?? UInt32(header[4]),
            scope: Route.Scope(rawValue: header[6]) ?? .universe, origin: header[5],
            preferredSource: attributes[Attribute.preferredSource].flatMap { IPAddress(bytes: $0) },
            metric: attributes.u32(Attribute.metric))
    }
}
