/// The attributes of a netlink message, read with every length checked: what does not fit is left out.
struct Attributes: Sendable {
    /// In the order they stood in the message.
    let all: [(type: Int, value: ArraySlice<UInt8>)]

    init(_ bytes: ArraySlice<UInt8>) {
        var rest = bytes
        var found: [(type: Int, value: ArraySlice<UInt8>)] = []
        while let length = UInt16(native: rest), length >= 4, Int(length) <= rest.count,
            let type = UInt16(native: rest.dropFirst(2))
        {
            let end = rest.startIndex + Int(length)
            // The two high bits say "nested" and "network order"; they are no part of the type.
            found.append((Int(type & 0x3fff), rest[(rest.startIndex + 4)..<end]))
            rest = rest.dropFirst((Int(length) + 3) & ~3)
        }
        all = found
    }

    subscript(type: Int) -> ArraySlice<UInt8>? {
        all.last { $0.type == type }?.value
    }

    func u8(_ type: Int) -> UInt8? { self[type]?.first }
    func u16(_ type: Int) -> UInt16? { self[type].flatMap { UInt16(native: $0) } }
    func u32(_ type: Int) -> UInt32? { self[type].flatMap { UInt32(native: $0) } }
    func bigEndian32(_ type: Int) -> UInt32? { u32(type).map { UInt32(bigEndian: $0) } }
    func bigEndian64(_ type: Int) -> UInt64? {
        self[type].flatMap { UInt64(native: $0) }.map { UInt64(bigEndian: $0) }
    }

    /// Text up to the first zero byte.
    func string(_ type: Int) -> String? {
        self[type].map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    func nested(_ type: Int) -> Attributes? {
        self[type].map { Attributes($0) }
    }
}
