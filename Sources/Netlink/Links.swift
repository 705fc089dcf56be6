import Addressing
import Glibc

/// A network interface.
public struct Link: Hashable, Sendable {
    public let index: UInt32
    public let name: String
    /// The driver's name, `veth` or `bridge`; `nil` for real hardware and loopback.
    public let kind: String?
    public let isUp: Bool
    /// Bytes.
    public let mtu: UInt32
    public let hardwareAddress: [UInt8]
    /// Index of the bridge it is a port of.
    public let master: UInt32?
    /// Index of a veth's other end, in the other end's namespace.
    public let peer: UInt32?
}

extension RouteSocket {
    public mutating func links() throws(NetlinkError) -> [Link] {
        var found: [Link] = []
        try socket.dump(
            NetlinkSocket.Message(type: Kind.getLink, body: Self.header(index: 0)), "list interfaces",
            reset: { found = [] }, each: { _, body in if let link = Self.decodeLink(body) { found.append(link) } })
        return found
    }

    /// The interface of that name; `nil` when there is none.
    public mutating func link(named name: String) throws(NetlinkError) -> Link? {
        var writer = AttributeWriter()
        writer.header(Self.header(index: 0))
        writer.put(Attribute.name, string: name)
        do throws(NetlinkError) {
            let body = try socket.ask(
                NetlinkSocket.Message(type: Kind.getLink, body: writer.bytes), "find interface \(name)")
            return Self.decodeLink(body[...])
        } catch {
            if error.code == ENODEV { return nil }
            throw error
        }
    }

    /// Makes a pair of virtual interfaces. With `peerNamespace`, a network namespace's descriptor, the second end is
    /// made there.
    public mutating func createPair(
        _ name: String, peer: String, peerNamespace: CInt? = nil
    ) throws(NetlinkError) {
        var writer = AttributeWriter()
        writer.header(Self.header(index: 0))
        writer.put(Attribute.name, string: name)
        writer.nest(Attribute.linkInfo) { info in
            info.put(Attribute.infoKind, string: "veth")
            info.nest(Attribute.infoData) { data in
                data.nest(Attribute.vethPeer) { other in
                    other.header(Self.header(index: 0))
                    other.put(Attribute.name, string: peer)
                    if let peerNamespace { other.put(Attribute.namespace, u32: UInt32(bitPattern: peerNamespace)) }
                }
            }
        }
        try create(writer.bytes, "create interfaces \(name) and \(peer)")
    }

    public mutating func createBridge(_ name: String) throws(NetlinkError) {
        var writer = AttributeWriter()
        writer.header(Self.header(index: 0))
        writer.put(Attribute.name, string: name)
        writer.nest(Attribute.linkInfo) { $0.put(Attribute.infoKind, string: "bridge") }
        try create(writer.bytes, "create bridge \(name)")
    }

    public mutating func setUp(_ index: UInt32, _ up: Bool = true) throws(NetlinkError) {
        try change(Self.header(index: index, flags: up ? 1 : 0, changed: 1), "set interface \(index) up")
    }

    /// Makes an interface a port of the bridge `master`; 0 takes it out of any.
    public mutating func setMaster(_ index: UInt32, to master: UInt32) throws(NetlinkError) {
        try change(index, "set master of interface \(index)") { $0.put(Attribute.master, u32: master) }
    }

    /// Moves an interface into another network namespace, given by descriptor, and renames it on the way.
    public mutating func move(
        _ index: UInt32, toNamespace descriptor: CInt, as name: String? = nil
    ) throws(NetlinkError) {
        try change(index, "move interface \(index)") { writer in
            writer.put(Attribute.namespace, u32: UInt32(bitPattern: descriptor))
            if let name { writer.put(Attribute.name, string: name) }
        }
    }

    public mutating func deleteLink(_ index: UInt32) throws(NetlinkError) {
        try socket.request(
            NetlinkSocket.Message(type: Kind.deleteLink, body: Self.header(index: index)),
            "delete interface \(index)")
    }

    private enum Kind {
        static let newLink: UInt16 = 16
        static let deleteLink: UInt16 = 17
        static let getLink: UInt16 = 18
    }

    private enum Attribute {
        static let hardwareAddress = 1
        static let name = 3
        static let mtu = 4
        static let link = 5
        static let master = 10
        static let linkInfo = 18
        static let namespace = 28
        static let infoKind = 1
        static let infoData = 2
        static let vethPeer = 1
    }

    private static func header(index: UInt32, flags: UInt32 = 0, changed: UInt32 = 0) -> [UInt8] {
        [0, 0, 0, 0] + index.nativeBytes + flags.nativeBytes + changed.nativeBytes
    }

    private mutating func create(_ body: [UInt8], _ operation: String) throws(NetlinkError) {
        let flags = NetlinkSocket.Flag.create | NetlinkSocket.Flag.exclusive
        try socket.request(NetlinkSocket.Message(type: Kind.newLink, flags: flags, body: body), operation)
    }

    private mutating func change(_ body: [UInt8], _ operation: String) throws(NetlinkError) {
        try socket.request(NetlinkSocket.Message(type: Kind.newLink, body: body), operation)
    }

    private mutating func change(
        _ index: UInt32, _ operation: String, _ body: (inout AttributeWriter) -> Void
    ) throws(NetlinkError) {
        var writer = AttributeWriter()
        writer.header(Self.header(index: index))
        body(&writer)
        try change(writer.bytes, operation)
    }

    private static func decodeLink(_ body: ArraySlice<UInt8>) -> Link? {
        guard body.count >= 16, let index = UInt32(native: body.dropFirst(4)),
            let flags = UInt32(native: body.dropFirst(8))
        else { return nil }
        let attributes = Attributes(body.dropFirst(16))
        guard let name = attributes.string(Attribute.name) else { return nil }
        let kind = attributes.nested(Attribute.linkInfo)?.string(Attribute.infoKind)
        return Link(
            index: index, name: name, kind: kind, isUp: flags & 1 != 0, mtu: attributes.u32(Attribute.mtu) ?? 0,
            hardwareAddress: attributes[Attribute.hardwareAddress].map { Array($0) } ?? [],
            master: attributes.u32(Attribute.master), peer: attributes.u32(Attribute.link))
    }
}
