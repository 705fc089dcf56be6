import Addressing
import Glibc

/// A TCP connection as conntrack remembers it.
public struct TrackedConnection: Hashable, Sendable {
    /// Who opened it, and what they asked for before any translation.
    public let source: Endpoint
    public let destination: Endpoint
    /// One of its ends was translated.
    public let isTranslated: Bool
    /// 0 where nobody has put it into a zone of its own.
    public let zone: UInt16
    /// Names this very entry, for as long as it is there.
    let id: UInt32

    /// For tests of what is made of it.
    init(_ source: Endpoint, _ destination: Endpoint, isTranslated: Bool = false, zone: UInt16 = 0, id: UInt32 = 0) {
        self.source = source
        self.destination = destination
        self.isTranslated = isTranslated
        self.zone = zone
        self.id = id
    }
}

/// What conntrack remembers in the network namespace of the thread that makes the socket (ctnetlink).
///
/// The messages and attributes are those of the kernel's `linux/netfilter/nfnetlink_conntrack.h`.
public struct ConntrackSocket: ~Copyable {
    private var socket: NetlinkSocket

    public init() throws(NetlinkError) {
        socket = try NetlinkSocket(.netfilter)
    }

    private enum Message {
        static let get: UInt16 = 0x0101
        static let delete: UInt16 = 0x0102
    }

    private enum Attribute {
        static let original = 1
        static let status = 3
        static let id = 12
        static let zone = 18
        /// In a tuple.
        static let addresses = 1
        static let ports = 2
        /// In a tuple's ports.
        static let transport = 1
        static let sourcePort = 2
        static let destinationPort = 3
    }

    /// All TCP connections it remembers, of both families, whether they are still there or not. The kernel goes through what
    /// it remembers of the whole machine.
    public mutating func tcpConnections() throws(NetlinkError) -> [TrackedConnection] {
        var found: [TrackedConnection] = []
        try socket.dump(
            NetlinkSocket.Message(type: Message.get, body: NftablesWire.header(family: 0)), "list tracked connections",
            reset: { found = [] },
            each: { _, body in
                if let connection = Self.decode(Attributes(body.dropFirst(4))) { found.append(connection) }
            }
        )
        return found
    }

    /// Has it forget a connection. One that is forgotten already is no error; the entry's id keeps a later one with the same
    /// addresses from being meant.
    public mutating func forget(_ connection: TrackedConnection) throws(NetlinkError) {
        let isV4 = connection.source.address.isV4
        var writer = AttributeWriter()
        writer.header(NftablesWire.header(family: connection.source.address.family.kernelNumber))
        writer.nest(Attribute.original) { tuple in
            tuple.nest(Attribute.addresses) {
                $0.put(isV4 ? 1 : 3, connection.source.address.bytes)
                $0.put(isV4 ? 2 : 4, connection.destination.address.bytes)
            }
            tuple.nest(Attribute.ports) {
                $0.put(Attribute.transport, u8: 6)
                $0.put(Attribute.sourcePort, u16: connection.source.port.bigEndian)
                $0.put(Attribute.destinationPort, u16: connection.destination.port.bigEndian)
            }
        }
        if connection.zone != 0 { writer.put(Attribute.zone, u16: connection.zone.bigEndian) }
        writer.put(Attribute.id, bigEndian: connection.id)
        do throws(NetlinkError) {
            try socket.request(
                NetlinkSocket.Message(type: Message.delete, body: writer.bytes),
                "forget the connection \(connection.source) to \(connection.destination)")
        } catch {
            guard error.code == ENOENT else { throw error }
        }
    }

    private static func decode(_ attributes: Attributes) -> TrackedConnection? {
        guard let tuple = attributes.nested(Attribute.original), let addresses = tuple.nested(Attribute.addresses),
            let ports = tuple.nested(Attribute.ports), ports.u8(Attribute.transport) == 6,
            let from = (addresses[1] ?? addresses[3]).flatMap({ IPAddress(bytes: $0) }),
            let to = (addresses[2] ?? addresses[4]).flatMap({ IPAddress(bytes: $0) }),
            let fromPort = ports.u16(Attribute.sourcePort), let toPort = ports.u16(Attribute.destinationPort),
            let status = attributes.bigEndian32(Attribute.status), let id = attributes.bigEndian32(Attribute.id)
        else { return nil }
        // IPS_SRC_NAT and IPS_DST_NAT.
        return TrackedConnection(
            Endpoint(from, UInt16(bigEndian: fromPort)), Endpoint(to, UInt16(bigEndian: toPort)),
            isTranslated: status & 0x30 != 0, zone: attributes.u16(Attribute.zone).map(UInt16.init(bigEndian:)) ?? 0,
            id: id)
    }
}
