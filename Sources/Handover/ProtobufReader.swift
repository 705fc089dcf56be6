/// The wire types of protobuf. Groups (3 and 4) have been out of use for long and are refused.
enum WireType: UInt8, Sendable {
    case varint = 0
    case fixed64 = 1
    case delimited = 2
    case fixed32 = 5
}

/// Reads protobuf's wire format, never past the end, never more than the caller's limits.
///
/// ``nextField()`` gives the number of the next field; the caller reads its value with the method of the
/// field's type, or leaves it: what has not been read is skipped by the next ``nextField()``.
public struct ProtobufReader: Sendable {
    /// Names the message in errors.
    public let name: String
    private let bytes: [UInt8]
    private var position: Int
    private let end: Int
    private var field: UInt32 = 0
    private var pending: WireType?

    public init(_ bytes: [UInt8], name: String) {
        self.init(bytes, 0..<bytes.count, name)
    }

    private init(_ bytes: [UInt8], _ range: Range<Int>, _ name: String) {
        self.bytes = bytes
        self.name = name
        position = range.lowerBound
        end = range.upperBound
    }

    /// The number of the next field; `nil` at the end of the message.
    public mutating func nextField() throws(HandoverError) -> UInt32? {
        if pending != nil { try skip() }
        guard position < end else { return nil }
        let tag = try rawVarint()
        guard (1...0x1fff_ffff).contains(tag >> 3) else {
            throw HandoverError(.malformed, "\(name): \(tag >> 3) is no field number")
        }
        field = UInt32(tag >> 3)
        guard let type = WireType(rawValue: UInt8(tag & 7)) else {
            throw error(.malformed, "wire type \(tag & 7) is not in use")
        }
        pending = type
        return field
    }

    /// The value of a uint64 field (and the bit pattern of an int64).
    public mutating func number() throws(HandoverError) -> UInt64 {
        try take(.varint)
        return try rawVarint()
    }

    /// The value of a uint32 field. Larger values are refused rather than cut.
    public mutating func number32() throws(HandoverError) -> UInt32 {
        let value = try number()
        guard let narrow = UInt32(exactly: value) else { throw error(.outOfRange, "\(value) does not fit 32 bits") }
        return narrow
    }

    /// The value of a bool field: every number but zero is true, as protobuf has it.
    public mutating func flag() throws(HandoverError) -> Bool { try number() != 0 }

    /// The value of a string field of at most `limit` bytes.
    public mutating func string(limit: Int) throws(HandoverError) -> String {
        let range = try delimited(limit: limit)
        guard let text = String(validating: bytes[range], as: UTF8.self) else { throw error(.notUTF8, "not UTF-8") }
        return text
    }

    /// A reader of a nested message of at most `limit` bytes.
    public mutating func message(limit: Int = .max) throws(HandoverError) -> ProtobufReader {
        let range = try delimited(limit: limit)
        return ProtobufReader(bytes, range, name)
    }

    /// Appends the numbers of a repeated field, packed or single, to `values`, which may hold `limit`.
    public mutating func numbers(into values: inout [UInt64], limit: Int) throws(HandoverError) {
        if pending == .varint {
            let value = try number()
            try bound(values.count, limit)
            values.append(value)
            return
        }
        var inner = try message()
        inner.field = field
        while inner.position < inner.end {
            try bound(values.count, limit)
            values.append(try inner.rawVarint())
        }
    }

    /// Throws `tooMany` when a repeated field that holds `count` elements may not grow by one.
    public func bound(_ count: Int, _ limit: Int) throws(HandoverError) {
        guard count < limit else { throw error(.tooMany, "more than \(limit) elements") }
    }

    /// An error that names the message and the field being read.
    public func error(_ code: HandoverError.Code, _ text: String) -> HandoverError {
        HandoverError(code, "\(name), field \(field): \(text)")
    }

    private mutating func take(_ type: WireType) throws(HandoverError) {
        guard let found = pending else { throw error(.malformed, "the value was read twice") }
        guard found == type else {
            throw error(.wrongWireType, "wire type \(found.rawValue) instead of \(type.rawValue)")
        }
        pending = nil
    }

    private mutating func delimited(limit: Int) throws(HandoverError) -> Range<Int> {
        try take(.delimited)
        let length = try rawVarint()
        guard length <= UInt64(end - position) else {
            throw error(.truncated, "\(length) bytes announced, \(end - position) there")
        }
        guard length <= UInt64(limit) else { throw error(.tooLong, "\(length) bytes, the limit is \(limit)") }
        let range = position..<position + Int(length)
        position = range.upperBound
        return range
    }

    private mutating func skip() throws(HandoverError) {
        switch pending {
        case .varint:
            _ = try number()
        case .delimited:
            _ = try delimited(limit: .max)
        case .fixed32:
            try advance(4)
        case .fixed64:
            try advance(8)
        case nil:
            break
        }
    }

    private mutating func advance(_ count: Int) throws(HandoverError) {
        guard count <= end - position else { throw error(.truncated, "the value is cut off") }
        position += count
        pending = nil
    }

    private mutating func rawVarint() throws(HandoverError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < end {
            let byte = bytes[position]
            position += 1
            // The tenth byte has room for one bit.
            guard shift < 63 || byte <= 1 else { throw error(.malformed, "a varint of more than 64 bits") }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
        throw error(.truncated, "a varint is cut off")
    }
}
