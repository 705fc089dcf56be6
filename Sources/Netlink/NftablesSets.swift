extension Nftables {
    /// A set with a name, which rules look things up in and which changes without them.
    public struct NamedSet: Hashable, Sendable {
        public var name: String
        /// What an element is made of, in order; not empty.
        public var key: [KeyPart]
        /// Each the parts' bytes in network order, every part padded with zeros to a multiple of 4.
        public var elements: Set<[UInt8]>

        public init(_ name: String, key: [KeyPart], elements: Set<[UInt8]> = []) {
            self.name = name
            self.key = key
            self.elements = elements
        }
    }

    /// A part of a set's key; the numbers by which the nft tool knows it.
    public enum KeyPart: UInt32, Hashable, Sendable {
        case ipv4Address = 7
        case ipv6Address = 8
        /// A port.
        case service = 13

        /// In bytes, padding included.
        public var length: Int { self == .ipv6Address ? 16 : 4 }
    }
}

extension NftablesWire {
    enum SetAttribute {
        static let table = 1
        static let name = 2
        static let flags = 3
        static let keyType = 4
        static let keyLength = 5
        static let id = 10
    }

    enum ElementAttribute {
        static let table = 1
        static let set = 2
        static let list = 3
        static let key = 1
        static let flags = 3
    }

    static func keyType(_ parts: [Nftables.KeyPart]) -> UInt32 { parts.reduce(0) { $0 << 6 | $1.rawValue } }

    static func keyParts(_ type: UInt32) -> [Nftables.KeyPart]? {
        var parts: [Nftables.KeyPart] = []
        var rest = type
        while rest != 0 {
            guard let part = Nftables.KeyPart(rawValue: rest & 63) else { return nil }
            parts.insert(part, at: 0)
            rest >>= 6
        }
        return parts
    }
}

extension Nftables.Batch {
    /// An attribute's length is 16 bits, so elements go in portions.
    private static let portion = 500

    /// Adds a set with its elements; one that exists with another key is an error.
    public mutating func addSet(_ set: Nftables.NamedSet, table: String) {
        let id = UInt32(steps.count + 1)
        append(NftablesWire.SetMessage.newSet, create: true, "add set \(table) \(set.name)") { writer in
            writer.put(NftablesWire.SetAttribute.table, string: table)
            writer.put(NftablesWire.SetAttribute.name, string: set.name)
            writer.put(NftablesWire.SetAttribute.keyType, bigEndian: NftablesWire.keyType(set.key))
            writer.put(NftablesWire.SetAttribute.keyLength, bigEndian: UInt32(set.key.reduce(0) { $0 + $1.length }))
            // Names the set within the batch; the kernel wants one though names do as well.
            writer.put(NftablesWire.SetAttribute.id, bigEndian: id)
        }
        addElements(set.elements, set: set.name, table: table)
    }

    /// Adds elements to a set; those that are in it already stay.
    public mutating func addElements(_ elements: Set<[UInt8]>, set: String, table: String) {
        change(NftablesWire.SetMessage.newElement, create: true, elements, set, table)
    }

    /// Takes elements out of a set; one that is not in it is an error.
    public mutating func deleteElements(_ elements: Set<[UInt8]>, set: String, table: String) {
        change(NftablesWire.SetMessage.deleteElement, create: false, elements, set, table)
    }

    private mutating func change(
        _ message: UInt16, create: Bool, _ elements: Set<[UInt8]>, _ set: String, _ table: String
    ) {
        var rest = ArraySlice(elements.sorted { $0.lexicographicallyPrecedes($1) })
        while !rest.isEmpty {
            let portion = rest.prefix(Self.portion)
            rest = rest.dropFirst(portion.count)
            append(message, create: create, "change elements of set \(table) \(set)") { writer in
                writer.put(NftablesWire.ElementAttribute.table, string: table)
                writer.put(NftablesWire.ElementAttribute.set, string: set)
                writer.nest(NftablesWire.ElementAttribute.list) { list in
                    for element in portion {
                        list.nest(NftablesWire.listElement) { entry in
                            entry.nest(NftablesWire.ElementAttribute.key) { $0.put(NftablesWire.dataValue, element) }
                        }
                    }
                }
            }
        }
    }
}

extension NftablesSocket {
    /// A table's named sets with their elements. Those whose keys or elements are of kinds this code never writes have
    /// an empty key.
    public mutating func sets(
        of table: String, _ family: Nftables.Family = .inet
    ) throws(NetlinkError) -> [Nftables.NamedSet] {
        var writer = AttributeWriter()
        writer.header(NftablesWire.header(family: family.rawValue))
        writer.put(NftablesWire.SetAttribute.table, string: table)
        var found = try dump(NftablesWire.SetMessage.getSet, writer.bytes, "list sets") { body in
            let attributes = Attributes(body.dropFirst(4))
            guard attributes.string(NftablesWire.SetAttribute.table) == table,
                let name = attributes.string(NftablesWire.SetAttribute.name)
            else { return nil as Nftables.NamedSet? }
            let type = attributes.bigEndian32(NftablesWire.SetAttribute.keyType)
            var key = type.flatMap(NftablesWire.keyParts) ?? []
            let flags = attributes.bigEndian32(NftablesWire.SetAttribute.flags) ?? 0
            // Maps, intervals, timeouts and the like.
            if flags != 0 { key = [] }
            return Nftables.NamedSet(name, key: key)
        }
        for index in found.indices {
            found[index].elements = try elements(of: found[index].name, table, family)
        }
        return found
    }

    private mutating func elements(
        of set: String, _ table: String, _ family: Nftables.Family
    ) throws(NetlinkError) -> Set<[UInt8]> {
        var writer = AttributeWriter()
        writer.header(NftablesWire.header(family: family.rawValue))
        writer.put(NftablesWire.ElementAttribute.table, string: table)
        writer.put(NftablesWire.ElementAttribute.set, string: set)
        let portions = try dump(NftablesWire.SetMessage.getElement, writer.bytes, "list elements") { body in
            Attributes(body.dropFirst(4)).nested(NftablesWire.ElementAttribute.list)?.all.compactMap { entry in
                Attributes(entry.value).nested(NftablesWire.ElementAttribute.key)?[NftablesWire.dataValue].map {
                    Array($0)
                }
            }
        }
        return Set(portions.joined())
    }
}
