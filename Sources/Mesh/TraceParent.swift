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
    public var traceID: String {
        var text: [UInt8] = []
        text.reserveCapacity(32)
        Self.put(traceHigh, 16, &text)
        Self.put(traceLow, 16, &text)
        return String(decoding: text, as: UTF8.self)
    }

    public var headerValue: String {
        var text: [UInt8] = []
        text.reserveCapacity(Self.length)
        Self.put(0, 2, &text)
        text.append(Self.dash)
        Self.put(traceHigh, 16, &text)
        Self.put(traceLow, 16, &text)
        text.append(Self.dash)
        Self.put(parent, 16, &text)
        text.append(Self.dash)
        Self.put(UInt64(flags), 2, &text)
        return String(decoding: text, as: UTF8.self)
    }

    public init?(headerValue: String) {
        guard headerValue.utf8.count == Self.length else { return nil }
        let text = Array(headerValue.utf8)
        guard text[2] == Self.dash, text[35] == Self.dash, text[52] == Self.dash,
            Self.number(text[0..<2]) == 0, let high = Self.number(text[3..<19]),
            let low = Self.number(text[19..<35]), let parent = Self.number(text[36..<52]),
            let flags = Self.number(text[53..<55]), high != 0 || low != 0, parent != 0
        else { return nil }
        traceHigh = high
        traceLow = low
        self.parent = parent
        self.flags = UInt8(flags)
    }

    private static let length = 55
    private static let dash = UInt8(ascii: "-")

    /// Appends so many lower-case hexadecimal digits.
    private static func put(_ value: UInt64, _ width: Int, _ text: inout [UInt8]) {
        for place in stride(from: width - 1, through: 0, by: -1) {
            let digit = UInt8(truncatingIfNeeded: value >> UInt64(4 * place) & 15)
            text.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
    }

    /// Lower-case hexadecimal digits only, at most sixteen.
    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for byte in digits {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt64(byte - UInt8(ascii: "0"))
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt64(byte - UInt8(ascii: "a") + 10)
            default: return nil
            }
        }
        return value
    }
}
