import Addressing
import Mesh

/// The header of PROXY protocol version 2 over TCP, which tells an application who is behind a connection that
/// somebody else makes to it (HAProxy's proxy-protocol.txt, section 2.2).
///
/// ztunnel writes it to applications that ask for it (`application_tunnel`, protocol PROXY), with the client's
/// certificate identity as type `0xD0`.
public struct ProxyHeader: Hashable, Sendable {
    /// A further value, kept as it stands.
    public struct Value: Hashable, Sendable {
        public var type: UInt8
        public var bytes: [UInt8]

        public init(type: UInt8, bytes: [UInt8]) {
            self.type = type
            self.bytes = bytes
        }
    }

    /// The two ends of the connection that is spoken for.
    public struct Ends: Hashable, Sendable {
        public var source: Endpoint
        public var destination: Endpoint

        public init(source: Endpoint, destination: Endpoint) {
            self.source = source
            self.destination = destination
        }
    }

    /// Type of the value that holds the client's SPIFFE identity.
    public static let identityType: UInt8 = 0xd0
    /// The longest header that is read; the format itself would allow 64 KiB.
    public static let maximumLength = 4096

    static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
    static let prefixLength = 16

    /// Nil for a connection of the proxy's own (LOCAL), or of a kind that is neither TCP over IPv4 nor over IPv6.
    public var ends: Ends?
    /// In their order on the wire.
    public var values: [Value]

    public init(ends: Ends?, values: [Value] = []) {
        self.ends = ends
        self.values = values
    }

    /// What an application is told: where the client is, whom it called, and who it proved to be.
    public init(source: Endpoint, destination: Endpoint, clientIdentity: SPIFFEIdentity?) {
        let identity = clientIdentity.map { Value(type: Self.identityType, bytes: Array($0.description.utf8)) }
        self.init(ends: Ends(source: source, destination: destination), values: identity.map { [$0] } ?? [])
    }

    /// The client's identity, where there is a well-formed one.
    public var clientIdentity: SPIFFEIdentity? {
        values.first { $0.type == Self.identityType }.flatMap {
            SPIFFEIdentity(String(decoding: $0.bytes, as: UTF8.self))
        }
    }

    /// The header as bytes. Without ends it is LOCAL and has no values. An IPv4 address beside an IPv6 one is written in its mapped form. Values beyond the
    /// length field's 65535 bytes are left out.
    public var encoded: [UInt8] {
        var body: [UInt8] = []
        var family: UInt8 = 0x00
        if let ends {
            let isV4 = ends.source.address.isV4 && ends.destination.address.isV4
            family = isV4 ? 0x11 : 0x21
            for address in [ends.source.address, ends.destination.address] {
                body += isV4 ? address.bytes : address.mapped.bytes
            }
            for port in [ends.source.port, ends.destination.port] { Self.append(Int(port), to: &body) }
        }
        for value in values where ends != nil && body.count + 3 + value.bytes.count <= 65535 {
            body.append(value.type)
            Self.append(value.bytes.count, to: &body)
            body += value.bytes
        }
        var header = Self.signature
        header.reserveCapacity(Self.prefixLength + body.count)
        header.append(ends == nil ? 0x20 : 0x21)
        header.append(family)
        Self.append(body.count, to: &header)
        return header + body
    }

    private static func append(_ number: Int, to bytes: inout [UInt8]) {
        bytes.append(UInt8(truncatingIfNeeded: number >> 8))
        bytes.append(UInt8(truncatingIfNeeded: number))
    }
}
