/// Writes protobuf's wire format (proto3: a field with its default value is not written).
///
/// Only what these messages need: varints, length-delimited fields, packed varints.
public struct ProtobufWriter: Sendable {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    private mutating func tag(_ field: UInt32, _ type: WireType) {
        varint(UInt64(field) << 3 | UInt64(type.rawValue))
    }

    /// uint32, uint64 and enumerations; int64 as its bit pattern. Zero is not written.
    public mutating func number(_ field: UInt32, _ value: UInt64) {
        if value != 0 { present(field, value) }
    }

    /// A number of a field with explicit presence: written though it be zero.
    public mutating func present(_ field: UInt32, _ value: UInt64) {
        tag(field, .varint)
        varint(value)
    }

    /// `false` is not written.
    public mutating func flag(_ field: UInt32, _ value: Bool) { number(field, value ? 1 : 0) }

    /// The empty string is not written.
    public mutating func string(_ field: UInt32, _ value: String) {
        if !value.isEmpty { element(field, value) }
    }

    /// One element of a repeated string: written though it be empty.
    public mutating func element(_ field: UInt32, _ value: String) {
        tag(field, .delimited)
        varint(UInt64(value.utf8.count))
        bytes.append(contentsOf: value.utf8)
    }

    /// A nested message, written though it be empty: its presence says which case of a oneof it is.
    public mutating func message(_ field: UInt32, _ body: (inout ProtobufWriter) -> Void) {
        var inner = ProtobufWriter()
        body(&inner)
        tag(field, .delimited)
        varint(UInt64(inner.bytes.count))
        bytes.append(contentsOf: inner.bytes)
    }

    /// A repeated number, packed; nothing for an empty list.
    public mutating func packed(_ field: UInt32, _ values: some Collection<UInt64>) {
        guard !values.isEmpty else { return }
        var inner = ProtobufWriter()
        for value in values { inner.varint(value) }
        tag(field, .delimited)
        varint(UInt64(inner.bytes.count))
        bytes.append(contentsOf: inner.bytes)
    }
}
