/// Builds the body of a netlink message: fixed headers first, then attributes (type, length, value, padded to 4).
///
/// Numbers are written in the machine's order unless a name says `bigEndian`: rtnetlink uses the former, nf_tables
/// the latter.
struct AttributeWriter {
    private(set) var bytes: [UInt8] = []

    static let nested: UInt16 = 0x8000

    /// Appends bytes that are no attribute, padded to a multiple of 4.
    mutating func header(_ values: [UInt8]) {
        bytes += values
        pad()
    }

    mutating func put(_ type: Int, _ value: some Collection<UInt8>) {
        start(type, length: value.count)
        bytes += value
        pad()
    }

    mutating func put(_ type: Int, string: String) {
        put(type, Array(string.utf8) + [0])
    }

    mutating func put(_ type: Int, u8 value: UInt8) { put(type, [value]) }
    mutating func put(_ type: Int, u16 value: UInt16) { put(type, value.nativeBytes) }
    mutating func put(_ type: Int, u32 value: UInt32) { put(type, value.nativeBytes) }
    mutating func put(_ type: Int, bigEndian value: UInt32) { put(type, value.bigEndian.nativeBytes) }
    mutating func put(_ type: Int, bigEndian value: UInt64) { put(type, value.bigEndian.nativeBytes) }

    /// An attribute that holds attributes.
    mutating func nest(_ type: Int, _ body: (inout AttributeWriter) throws -> Void) rethrows {
        let position = bytes.count
        start(type | Int(Self.nested), length: 0)
        try body(&self)
        let length = UInt16(truncatingIfNeeded: bytes.count - position)
        bytes.replaceSubrange(position..<(position + 2), with: length.nativeBytes)
    }

    private mutating func start(_ type: Int, length: Int) {
        bytes += UInt16(truncatingIfNeeded: length + 4).nativeBytes
        bytes += UInt16(truncatingIfNeeded: type).nativeBytes
    }

    private mutating func pad() {
        while bytes.count % 4 != 0 { bytes.append(0) }
    }
}

extension FixedWidthInteger {
    /// The value as the machine stores it.
    var nativeBytes: [UInt8] {
        withUnsafeBytes(of: self) { Array($0) }
    }

    /// Reads the value as the machine stores it; `nil` when there are too few bytes.
    init?(native bytes: some Collection<UInt8>) {
        guard bytes.count >= MemoryLayout<Self>.size else { return nil }
        var value: Self = 0
        withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: bytes.prefix(MemoryLayout<Self>.size)) }
        self = value
    }
}
