/// Why a resource from the wire is no resource of the mesh. Only the resource is refused, never its neighbours.
public struct ConversionError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The field, as on the wire.
    public let field: String
    public let message: String

    public init(_ field: String, _ message: String) {
        self.field = field
        self.message = message
    }

    public var description: String { "\(field): \(message)" }
}

/// Reads protobuf messages from bytes, field by field and without copies (proto3 wire format).
///
/// What is unknown, or known and of another wire type, is skipped. Never reads beyond the message it is in.
struct WireCursor {
    enum Kind: UInt8 { case varint, fixed64, length, startGroup, endGroup, fixed32 }

    struct Field {
        let number: UInt32
        let kind: Kind
        /// Where its tag begins.
        let start: Int
    }

    /// Groups within groups that are followed to their end.
    private static let groupLimit = 100

    let bytes: [UInt8]
    private(set) var position: Int
    private var end: Int

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        position = 0
        end = bytes.count
    }

    private static let malformed = ConversionError("message", "is no protobuf message")

    /// Goes on to a part of the bytes, as a message of its own.
    mutating func enter(_ range: Range<Int>) {
        position = range.lowerBound
        end = range.upperBound
    }

    /// Bytes left of the message.
    var left: Int { end - position }

    /// The next field's tag; `nil` at the end of the message.
    mutating func next() throws(ConversionError) -> Field? {
        guard position < end else { return nil }
        let start = position
        let tag = try varint()
        guard tag < UInt64(UInt32.max), tag >> 3 != 0, let kind = Kind(rawValue: UInt8(tag & 7)) else {
            throw Self.malformed
        }
        return Field(number: UInt32(tag >> 3), kind: kind, start: start)
    }

    @inline(__always)
    mutating func varint() throws(ConversionError) -> UInt64 {
        // Nearly every tag and length is one byte.
        if position < end, bytes[position] < 0x80 {
            position += 1
            return UInt64(bytes[position - 1])
        }
        return try longVarint()
    }

    private mutating func longVarint() throws(ConversionError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < end, shift < 64 {
            let byte = bytes[position]
            position += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw Self.malformed
    }

    /// The bytes of a field of the kind `length`.
    mutating func range() throws(ConversionError) -> Range<Int> {
        let count = try varint()
        guard count <= UInt64(left) else { throw Self.malformed }
        let range = position..<(position + Int(count))
        position = range.upperBound
        return range
    }

    /// Reads a field of the kind `length` as a message, with the cursor confined to it.
    mutating func message(
        _ read: (inout WireCursor) throws(ConversionError) -> Void
    ) throws(ConversionError) {
        let range = try range()
        let outer = end
        enter(range)
        try read(&self)
        position = range.upperBound
        end = outer
    }

    static func text(_ bytes: Span<UInt8>, _ field: String) throws(ConversionError) -> String {
        do {
            return String(copying: try UTF8Span(validating: bytes))
        } catch {
            throw ConversionError(field, "is not UTF-8")
        }
    }

    func string(_ range: Range<Int>, _ field: String) throws(ConversionError) -> String {
        try Self.text(bytes.span.extracting(range), field)
    }

    mutating func string(_ field: String) throws(ConversionError) -> String {
        try string(range(), field)
    }

    /// A text that comes again and again: held once for all who have it.
    mutating func shared(_ field: String, _ caches: inout WireCaches) throws(ConversionError) -> String {
        let range = try range()
        return try caches.text(bytes.span.extracting(range), field)
    }

    /// An enumeration's value: 32 bits, however many there are.
    mutating func enumeration() throws(ConversionError) -> Int {
        Int(Int32(truncatingIfNeeded: try varint()))
    }
    mutating func uint32() throws(ConversionError) -> UInt32 {
        UInt32(truncatingIfNeeded: try varint())
    }
    mutating func bool() throws(ConversionError) -> Bool { try varint() != 0 }

    /// Values that may come one by one or packed.
    mutating func repeated(
        _ kind: Kind, _ take: (UInt64) throws(ConversionError) -> Void
    ) throws(ConversionError) {
        guard kind == .length else { return try take(varint()) }
        try message { (cursor) throws(ConversionError) in
            while cursor.position < cursor.end { try take(cursor.varint()) }
        }
    }

    mutating func skip(_ field: Field) throws(ConversionError) { try skip(field, depth: 0) }

    private mutating func skip(_ field: Field, depth: Int) throws(ConversionError) {
        switch field.kind {
        case .varint: _ = try varint()
        case .length: _ = try range()
        case .fixed64: try advance(8)
        case .fixed32: try advance(4)
        case .endGroup: throw Self.malformed
        case .startGroup:
            guard depth < Self.groupLimit else { throw Self.malformed }
            while true {
                guard let inner = try next() else { throw Self.malformed }
                if inner.kind == .endGroup {
                    guard inner.number == field.number else { throw Self.malformed }
                    return
                }
                try skip(inner, depth: depth + 1)
            }
        }
    }

    private mutating func advance(_ count: Int) throws(ConversionError) {
        guard count <= left else { throw Self.malformed }
        position += count
    }
}
