import Addressing

/// An address of an interface, with the length of the prefix it is on.
public struct InterfaceAddress: Hashable, Sendable {
    public let address: IPAddress
    public let prefixLength: Int
    /// The interface's index.
    public let interface: UInt32

    public init(_ address: IPAddress, prefixLength: Int, interface: UInt32) {
        self.address = address
        self.prefixLength = prefixLength
        self.interface = interface
    }
}

extension RouteSocket {
    /// All addresses of all interfaces, loopback included.
    public mutating func addresses() throws(NetlinkError) -> [InterfaceAddress] {
        var found: [InterfaceAddress] = []
        try socket.dump(
            NetlinkSocket.Message(type: Kind.getAddress, body: [0, 0, 0, 0, 0, 0, 0, 0]), "list addresses",
            reset: { found = [] },
            each: { _, body in if let address = Self.decodeAddress(body) { found.append(address) } })
        return found
    }

    /// Gives an interface an address. IPv6 duplicate address detection is left out (RFC 4862 section 5.4): whoever
    /// gives addresses here knows that they are unique, and the address is usable at once.
    public mutating func add(_ address: InterfaceAddress, existing: Existing = .refuse) throws(NetlinkError) {
        var writer = AttributeWriter()
        let withoutDetection: UInt8 = address.address.isV4 ? 0 : 0x02
        writer.header(
            [address.address.family.kernelNumber, UInt8(address.prefixLength), withoutDetection, 0]
                + address.interface.nativeBytes)
        if address.address.isV4 { writer.put(Attribute.local, address.address.bytes) }
        writer.put(Attribute.address, address.address.bytes)
        try socket.request(
            NetlinkSocket.Message(type: Kind.newAddress, flags: existing.flags, body: writer.bytes),
            "add address \(address.address)/\(address.prefixLength) to interface \(address.interface)")
    }

    private enum Kind {
        static let newAddress: UInt16 = 20
        static let getAddress: UInt16 = 22
    }

    private enum Attribute {
        static let address = 1
        static let local = 2
    }

    private static func decodeAddress(_ body: ArraySlice<UInt8>) -> InterfaceAddress? {
        guard body.count >= 8, let index = UInt32(native: body.dropFirst(4)) else { return nil }
        let header = Array(body.prefix(4))
        let attributes = Attributes(body.dropFirst(8))
        // On a point-to-point link the plain attribute names the other side.
        guard let bytes = attributes[Attribute.local] ?? attributes[Attribute.address],
            let address = IPAddress(bytes: bytes)
        else { return nil }
        return InterfaceAddress(address, prefixLength: Int(header[1]), interface: index)
    }
}
