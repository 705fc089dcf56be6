import Synchronization

/// What a delta discovery response says (`envoy.service.discovery.v3.DeltaDiscoveryResponse`), its resources converted.
public struct ResourceDelta: Sendable {
    public struct Resource: Sendable {
        public let name: String
        public let version: String
        /// What it changes, or why it is refused.
        public let update: Result<MeshUpdate, ConversionError>
    }

    public enum Kind: Sendable { case address, authorization, other }

    public var typeURL = ""
    public var nonce = ""
    public var resources: [Resource] = []
    public var removed: [String] = []
    /// Of the resources as they came; those of an unknown type are counted and not read.
    public var resourceCount = 0
    public var resourceBytes = 0

    public init() {}

    public var kind: Kind {
        switch typeURL {
        case ResourceDecoder.addressType: .address
        case ResourceDecoder.authorizationType: .authorization
        default: .other
        }
    }
}

/// Makes values of the mesh from the bytes of discovery, without anything in between.
///
/// What many resources have in common is held once for all that this decoder has read.
public final class ResourceDecoder: Sendable {
    public static let addressType = "type.googleapis.com/istio.workload.Address"
    public static let authorizationType = "type.googleapis.com/istio.security.Authorization"

    private let caches = Mutex(WireCaches())

    public init() {}

    /// Reads a response. A resource that is wrong by itself is refused by itself.
    ///
    /// - Throws: ``ConversionError`` for bytes that are no response.
    public func response(_ bytes: [UInt8]) throws(ConversionError) -> ResourceDelta {
        var delta = ResourceDelta()
        var cursor = WireCursor(bytes)
        var resources: [Range<Int>] = []
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (2, .length): resources.append(try cursor.range())
            case (4, .length): delta.typeURL = try cursor.string("type_url")
            case (5, .length): delta.nonce = try cursor.string("nonce")
            case (6, .length): delta.removed.append(try cursor.string("removed_resources"))
            default: try cursor.skip(field)
            }
        }
        delta.resourceCount = resources.count
        delta.resourceBytes = resources.reduce(0) { $0 + $1.count }
        guard delta.kind != .other else { return delta }
        delta.resources.reserveCapacity(resources.count)
        let found = caches.withLock { caches in
            Result { () throws(ConversionError) in
                var found = delta
                for range in resources {
                    cursor.enter(range)
                    found.resources.append(try Self.resource(&cursor, found.typeURL, &caches))
                }
                return found
            }
        }
        return try found.get()
    }

    /// Reads the body of one resource.
    public func update(name: String, typeURL: String, body: [UInt8]) throws(ConversionError)
        -> MeshUpdate
    {
        let result = caches.withLock { caches in
            Result { () throws(ConversionError) in
                // The name stands in front of the body, as if both had come together.
                let front = Array(name.utf8)
                var cursor = WireCursor(front + body)
                cursor.enter(front.count..<(front.count + body.count))
                return try Self.update(&cursor, name: name, at: 0..<front.count, typeURL, &caches)
            }
        }
        return try result.get()
    }

    private static func resource(
        _ cursor: inout WireCursor, _ typeURL: String, _ caches: inout WireCaches
    ) throws(ConversionError) -> ResourceDelta.Resource {
        var name = 0..<0
        var version = ""
        var bodyType = 0..<0
        var body = 0..<0
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (1, .length): version = try cursor.string("version")
            case (3, .length):
                // One that does not count any more has to be a text as well.
                if !name.isEmpty { _ = try cursor.string(name, "name") }
                name = try cursor.range()
            case (2, .length):
                try cursor.message { (cursor) throws(ConversionError) in
                    while let field = try cursor.next() {
                        switch (field.number, field.kind) {
                        case (1, .length): bodyType = try cursor.range()
                        case (2, .length): body = try cursor.range()
                        default: try cursor.skip(field)
                        }
                    }
                }
            default: try cursor.skip(field)
            }
        }
        let text = try cursor.string(name, "name")
        let update: Result<MeshUpdate, ConversionError>
        do throws(ConversionError) {
            guard WireBytes.areEqual(typeURL.utf8Span.span, cursor.bytes.span.extracting(bodyType)) else {
                let other = String(decoding: cursor.bytes[bodyType].prefix(100), as: UTF8.self)
                throw ConversionError("resource", "is of type \(other)")
            }
            cursor.enter(body)
            update = .success(try Self.update(&cursor, name: text, at: name, typeURL, &caches))
        } catch {
            update = .failure(error)
        }
        return ResourceDelta.Resource(name: text, version: version, update: update)
    }

    private static func update(
        _ cursor: inout WireCursor, name: String, at nameBytes: Range<Int>, _ typeURL: String,
        _ caches: inout WireCaches
    ) throws(ConversionError) -> MeshUpdate {
        switch typeURL {
        case addressType:
            return try address(&cursor, name: name, at: nameBytes, &caches)
        case authorizationType:
            var policy = PolicyWire()
            try policy.merge(&cursor)
            return .policy(name, try policy.value())
        default:
            throw ConversionError("type_url", "\(typeURL.prefix(100)) is unknown")
        }
    }

    /// `istio.workload.Address`: either a workload or a service, the one that comes last.
    private static func address(
        _ cursor: inout WireCursor, name: String, at nameBytes: Range<Int>, _ caches: inout WireCaches
    ) throws(ConversionError) -> MeshUpdate {
        var workload: WorkloadWire?
        var service: ServiceWire?
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (1, .length):
                var wire = workload ?? WorkloadWire(caches.takeScratch())
                try cursor.message { (cursor) throws(ConversionError) in try wire.merge(&cursor) }
                (workload, service) = (wire, nil)
            case (2, .length):
                var wire = service ?? ServiceWire()
                try cursor.message { (cursor) throws(ConversionError) in try wire.merge(&cursor, &caches) }
                (workload, service) = (nil, wire)
            default: try cursor.skip(field)
            }
        }
        if let made = try workload?.value(cursor, resource: name, at: nameBytes, &caches) { return .workload(made) }
        if let service { return .service(try service.value(cursor)) }
        throw ConversionError("type", "is neither workload nor service")
    }
}
