import Addressing

/// A routing policy rule: which packets are looked up in which table (`ip rule`).
public struct PolicyRule: Hashable, Sendable {
    public var family: IPAddress.Family
    /// Lower comes first.
    public var priority: UInt32
    /// The packet mark to match and the bits of it that count.
    public var mark: UInt32?
    public var mask: UInt32?
    public var source: CIDR?
    public var destination: CIDR?
    public var inputInterface: String?
    public var outputInterface: String?
    /// Matches what does not fit the selectors.
    public var inverted: Bool
    /// The table looked up; `nil` where the rule does something else.
    public var table: UInt32?

    public init(
        _ family: IPAddress.Family, priority: UInt32, mark: UInt32? = nil, mask: UInt32? = nil, source: CIDR? = nil,
        destination: CIDR? = nil, inputInterface: String? = nil, outputInterface: String? = nil,
        inverted: Bool = false, table: UInt32?
    ) {
        self.family = family
        self.priority = priority
        self.mark = mark
        self.mask = mask
        self.source = source
        self.destination = destination
        self.inputInterface = inputInterface
        self.outputInterface = outputInterface
        self.inverted = inverted
        self.table = table
    }
}

extension PolicyRule: CustomStringConvertible {
    public var description: String {
        var text = "\(family) rule \(priority):"
        if inverted { text += " not" }
        if let source { text += " from \(source)" }
        if let destination { text += " to \(destination)" }
        if let mark {
            text += " fwmark 0x\(String(mark, radix: 16))"
            if let mask { text += "/0x\(String(mask, radix: 16))" }
        }
        if let inputInterface { text += " iif \(inputInterface)" }
        if let outputInterface { text += " oif \(outputInterface)" }
        return text + (table.map { " lookup \($0)" } ?? " (no lookup)")
    }
}

extension RouteSocket {
    /// Adds a rule; one that is there already in every part is an error (EEXIST).
    public mutating func add(_ rule: PolicyRule) throws(NetlinkError) {
        let flags = NetlinkSocket.Flag.create | NetlinkSocket.Flag.exclusive
        try socket.request(
            NetlinkSocket.Message(type: Kind.newRule, flags: flags, body: encode(rule)), "add \(rule)")
    }

    /// Deletes the first rule that fits; none is an error (ENOENT).
    public mutating func delete(_ rule: PolicyRule) throws(NetlinkError) {
        try socket.request(NetlinkSocket.Message(type: Kind.deleteRule, body: encode(rule)), "delete \(rule)")
    }

    /// The rules of one family, in order.
    public mutating func rules(_ family: IPAddress.Family) throws(NetlinkError) -> [PolicyRule] {
        var writer = AttributeWriter()
        writer.header([family.kernelNumber, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        var found: [PolicyRule] = []
        try socket.dump(
            NetlinkSocket.Message(type: Kind.getRule, body: writer.bytes), "list rules",
            reset: { found = [] }, each: { _, body in if let rule = Self.decodeRule(body) { found.append(rule) } })
        return found.filter { $0.family == family }
    }

    private enum Kind {
        static let newRule: UInt16 = 32
        static let deleteRule: UInt16 = 33
        static let getRule: UInt16 = 34
        static let lookup: UInt8 = 1
        static let invert: UInt32 = 2
    }

    private enum Attribute {
        static let destination = 1
        static let source = 2
        static let inputInterface = 3
        static let priority = 6
        static let mark = 10
        static let table = 15
        static let mask = 16
        static let outputInterface = 17
    }

    private func encode(_ rule: PolicyRule) -> [UInt8] {
        var writer = AttributeWriter()
        let table = rule.table.map { $0 < 256 ? UInt8($0) : 0 } ?? 0
        let flags: UInt32 = rule.inverted ? Kind.invert : 0
        writer.header(
            [
                rule.family.kernelNumber, UInt8(rule.destination?.length ?? 0), UInt8(rule.source?.length ?? 0), 0,
                table, 0, 0, Kind.lookup,
            ] + flags.nativeBytes)
        writer.put(Attribute.priority, u32: rule.priority)
        if let mark = rule.mark { writer.put(Attribute.mark, u32: mark) }
        if let mask = rule.mask { writer.put(Attribute.mask, u32: mask) }
        if let source = rule.source { writer.put(Attribute.source, source.base.bytes) }
        if let destination = rule.destination { writer.put(Attribute.destination, destination.base.bytes) }
        if let name = rule.inputInterface { writer.put(Attribute.inputInterface, string: name) }
        if let name = rule.outputInterface { writer.put(Attribute.outputInterface, string: name) }
        if let table = rule.table { writer.put(Attribute.table, u32: table) }
        return writer.bytes
    }

    private static func decodeRule(_ body: ArraySlice<UInt8>) -> PolicyRule? {
        guard body.count >= 12 else { return nil }
        let header = Array(body.prefix(12))
        guard let family = IPAddress.Family(kernelNumber: header[0]) else { return nil }
        let attributes = Attributes(body.dropFirst(12))
        func block(_ type: Int, _ length: UInt8) -> CIDR? {
            guard length > 0, let address = attributes[type].flatMap({ IPAddress(bytes: $0) }) else { return nil }
            return CIDR(address, length: Int(length))
        }
        let flags = UInt32(native: header[8...]) ?? 0
        return PolicyRule(
            family, priority: attributes.u32(Attribute.priority) ?? 0, mark: attributes.u32(Attribute.mark),
            mask: attributes.u32(Attribute.mask), source: block(Attribute.source, header[2]),
            destination: block(Attribute.destination, header[1]),
            inputInterface: attributes.string(Attribute.inputInterface),
            outputInterface: attributes.string(Attribute.outputInterface), inverted: flags & Kind.invert != 0,
            table: header[7] == Kind.lookup ? attributes.u32(Attribute.table) ?? UInt32(header[4]) : nil)
    }
}
