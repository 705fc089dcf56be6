/// The `traceparent` header (W3C Trace Context, version 00) that ties the log lines of both ends together.
public struct TraceParent: Hashable, Sendable {
    public let traceHigh: UInt64
    public let traceLow: UInt64
    public let parent: UInt64
    public let flags: UInt8

    /// A new trace. Neither id is zero, which would make it invalid.
    public init(random: inout some RandomNumberGenerator) {
        traceHigh = .random(in: 1...UInt64.max, using: &random)
        traceLow = random.next()
        parent = .random(in: 1...UInt64.max, using: &random)
        flags = 0
    }

    /// 32 hexadecimal digits.
    public var traceID: String { Self.hex(traceHigh, 16) + Self.hex(traceLow, 16) }

    public var headerValue: String { "00-\(traceID)-\(Self.hex(parent, 16))-\(Self.hex(UInt64(flags), 2))" }

    public init?(headerValue: String) {
        let parts = headerValue.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard headerValue.utf8.count == 55, parts.count == 4, parts[0].elementsEqual("00".utf8), parts[1].count == 32,
            parts[2].count == 16, parts[3].count == 2,
            let high = Self.number(parts[1].prefix(16)), let low = Self.number(parts[1].suffix(16)),
            let parent = Self.number(parts[2]), let flags = Self.number(parts[3]),
            high != 0 || low != 0, parent != 0
        else { return nil }
        traceHigh = high
        traceLow = low
        self.parent = parent
        self.flags = UInt8(flags)
    }

    private static func hex(_ value: UInt64, _ width: Int) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: width - digits.utf8.count) + digits
    }

    /// Lower-case hexadecimal digits only.
    private static func number(_ digits: Substring.UTF8View) -> UInt64? {
        guard digits.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }) else { return nil }
        return UInt64(Substring(digits), radix: 16)
    }
}
