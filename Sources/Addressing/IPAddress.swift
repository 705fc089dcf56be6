/// An IPv4 or IPv6 address as a value: 17 bytes, hashable, no allocation.
///
/// IPv4-mapped IPv6 addresses (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2) are a socket's way to say IPv4;
/// ``canonical`` turns them into IPv4, and everything that decides by address uses the canonical form.
public struct IPAddress: Hashable, Sendable {
    public enum Family: UInt8, Hashable, Sendable, CaseIterable {
        case v4 = 4
        case v6 = 6
    }

    public let family: Family
    /// Network order read as numbers: an IPv4 address fills the low 32 bits of `low`.
    public let high: UInt64
    public let low: UInt64

    @inlinable
    public init(v4: UInt32) {
        family = .v4
        high = 0
        low = UInt64(v4)
    }

    @inlinable
    public init(v6High: UInt64, low: UInt64) {
        family = .v6
        high = v6High
        self.low = low
    }

    @inlinable
    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
        self.init(v4: UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d))
    }

    /// Four or sixteen bytes in network order; any other count is no address.
    public init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4:
            self.init(v4: bytes.reduce(0) { $0 << 8 | UInt32($1) })
        case 16:
            let high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
            let low = bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
            self.init(v6High: high, low: low)
        default:
            return nil
        }
    }

    @inlinable public var isV4: Bool { family == .v4 }
    @inlinable public var v4Value: UInt32 { UInt32(truncatingIfNeeded: low) }
    @inlinable public var bitWidth: Int { family == .v4 ? 32 : 128 }

    /// The address in network order, 4 or 16 bytes.
    public var bytes: [UInt8] {
        func split(_ value: UInt64, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - $0))) }
        }
        return family == .v4 ? split(low, 4) : split(high, 8) + split(low, 8)
    }

    @inlinable public var isMapped: Bool { family == .v6 && high == 0 && low >> 32 == 0xffff }
    /// IPv4 for an IPv4-mapped IPv6 address, itself otherwise.
    @inlinable public var canonical: IPAddress { isMapped ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : self }
    /// The IPv6 form a dual-stack socket wants.
    @inlinable public var mapped: IPAddress {
        family == .v4 ? IPAddress(v6High: 0, low: 0xffff_0000_0000 | low) : self
    }

    /// 127.0.0.0/8 or ::1, also in mapped form.
    public var isLoopback: Bool {
        let address = canonical
        return address.isV4 ? address.v4Value >> 24 == 127 : (address.high == 0 && address.low == 1)
    }
    public var isUnspecified: Bool { high == 0 && low == 0 }
    /// 169.254.0.0/16 or fe80::/10.
    public var isLinkLocal: Bool { isV4 ? v4Value >> 16 == 0xa9fe : high >> 54 == 0x3fa }

    public static let anyV4 = IPAddress(v4: 0)
    public static let anyV6 = IPAddress(v6High: 0, low: 0)
    public static let loopbackV4 = IPAddress(127, 0, 0, 1)
    public static let loopbackV6 = IPAddress(v6High: 0, low: 1)
}

extension IPAddress: Comparable {
    public static func < (left: IPAddress, right: IPAddress) -> Bool {
        (left.family.rawValue, left.high, left.low) < (right.family.rawValue, right.high, right.low)
    }
}

// MARK: - Text

extension IPAddress: LosslessStringConvertible {
    /// Dotted quad or RFC 4291 text; no zone, no brackets, no leading zeros in a quad.
    public init?(_ text: some StringProtocol) {
        if let quad = text.utf8.withContiguousStorageIfAvailable({ Self.parseV4($0[...]) }), let quad {
            self.init(v4: quad)
            return
        }
        let bytes = Array(text.utf8)
        guard bytes.count >= 2, bytes.count <= 45 else { return nil }
        if bytes.contains(UInt8(ascii: ":")) {
            guard let words = Self.parseV6(bytes[...]) else { return nil }
            let high = words[0..<4].reduce(0) { $0 << 16 | UInt64($1) }
            let low = words[4..<8].reduce(0) { $0 << 16 | UInt64($1) }
            self.init(v6High: high, low: low)
        } else {
            guard let value = Self.parseV4(bytes[...]) else { return nil }
            self.init(v4: value)
        }
    }

    public init?(_ text: String) { self.init(text[...]) }

    public var description: String {
        guard family == .v6 else {
            return DecimalText.string(15) { DecimalText.put(v4: v4Value, &$0) }
        }
        if isMapped { return "::ffff:\(canonical)" }
        let words = (0..<8).map { index in
            UInt16(truncatingIfNeeded: (index < 4 ? high : low) >> UInt64(16 * (3 - index % 4)))
        }
        // RFC 5952: the longest run of two or more zero words, the first of equals, becomes "::".
        var best = 0..<0
        var start = 0
        while start < 8 {
            var end = start
            while end < 8, words[end] == 0 { end += 1 }
            if end - start >= 2, end - start > best.count { best = start..<end }
            start = Swift.max(end, start + 1)
        }
        func hex(_ part: ArraySlice<UInt16>) -> String { part.map { String($0, radix: 16) }.joined(separator: ":") }
        guard !best.isEmpty else { return hex(words[...]) }
        return hex(words[..<best.lowerBound]) + "::" + hex(words[best.upperBound...])
    }

    /// Four numbers of at most three digits without leading zeros.
    private static func parseV4(_ text: some Collection<UInt8>) -> UInt32? {
        var value: UInt32 = 0
        var octet: UInt32 = 0
        var digits = 0
        var dots = 0
        for byte in text {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                guard digits == 0 || octet != 0 else { return nil }
                octet = octet * 10 + UInt32(byte - UInt8(ascii: "0"))
                digits += 1
                guard octet <= 255 else { return nil }
            case UInt8(ascii: "."):
                guard digits > 0, dots < 3 else { return nil }
                value = value << 8 | octet
                octet = 0
                digits = 0
                dots += 1
            default: return nil
            }
        }
        return digits > 0 && dots == 3 ? value << 8 | octet : nil
    }

    private static func parseV6(_ text: ArraySlice<UInt8>) -> [UInt16]? {
        /// The words of one side of "::", the last of which may be a dotted quad.
        func words(_ side: ArraySlice<UInt8>) -> [UInt16]? {
            guard !side.isEmpty else { return [] }
            var result: [UInt16] = []
            let parts = side.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
            for (index, part) in parts.enumerated() {
                if index == parts.count - 1, part.contains(UInt8(ascii: ".")) {
                    guard let quad = parseV4(part) else { return nil }
                    result += [UInt16(quad >> 16), UInt16(truncatingIfNeeded: quad)]
                    continue
                }
                guard (1...4).contains(part.count) else { return nil }
                var word: UInt16 = 0
                for byte in part {
                    guard let digit = hexDigit(byte) else { return nil }
                    word = word << 4 | UInt16(digit)
                }
                result.append(word)
            }
            return result
        }
        let colon = UInt8(ascii: ":")
        for index in text.indices.dropLast() where text[index] == colon && text[index + 1] == colon {
            guard let left = words(text[..<index]), let right = words(text[(index + 2)...]),
                !text[..<index].contains(UInt8(ascii: ".")), left.count + right.count <= 7
            else { return nil }
            return left + Array(repeating: 0, count: 8 - left.count - right.count) + right
        }
        guard let all = words(text), all.count == 8 else { return nil }
        return all
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
