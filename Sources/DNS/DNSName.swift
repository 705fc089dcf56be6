/// A domain name as it is on the wire, uncompressed and in lower case: names that differ in case alone are equal
/// (RFC 1035 section 2.3.3, RFC 4343).
public struct DNSName: Hashable, Sendable {
    /// Longest name in bytes, the root's empty label included.
    public static let longest = 255
    public static let longestLabel = 63

    /// Length-prefixed labels and the root's zero.
    public let wire: [UInt8]

    public static let root = DNSName(wire: [0])

    /// Takes bytes that are known to be a name in lower case.
    init(wire: [UInt8]) { self.wire = wire }

    /// Reads `a.b.c`, with or without a dot at the end. Any byte but a dot may be in a label, for there are names with
    /// underscores and asterisks.
    /// - Returns: `nil` for what is no name: an empty label, or one that is too long.
    public init?(_ text: some StringProtocol) {
        var wire: [UInt8] = []
        var start = 0
        wire.append(0)
        let bytes = text.utf8
        if bytes.isEmpty || bytes.elementsEqual([0x2e]) {
            self = .root
            return
        }
        var endsWithDot = false
        for byte in bytes {
            endsWithDot = byte == 0x2e
            if endsWithDot {
                guard wire[start] > 0 else { return nil }
                start = wire.count
                wire.append(0)
            } else {
                guard wire[start] < UInt8(Self.longestLabel) else { return nil }
                wire[start] += 1
                wire.append(Self.lowered(byte))
            }
            guard wire.count < Self.longest else { return nil }
        }
        if !endsWithDot { wire.append(0) }
        self.wire = wire
    }

    @inline(__always)
    static func lowered(_ byte: UInt8) -> UInt8 { (0x41...0x5a).contains(byte) ? byte | 0x20 : byte }

    public var isRoot: Bool { wire.count == 1 }

    /// `a.b.c` without a dot at the end; `nil` when a label has a byte that makes text of it ambiguous (a dot, a space,
    /// a control character, or beyond ASCII). Such a name is nobody's host name.
    public var hostname: String? {
        var text: [UInt8] = []
        text.reserveCapacity(wire.count)
        var index = 0
        while wire[index] != 0 {
            if index > 0 { text.append(0x2e) }
            let end = index + 1 + Int(wire[index])
            for byte in wire[(index + 1)..<end] {
                guard byte > 0x20, byte < 0x7f, byte != 0x2e else { return nil }
                text.append(byte)
            }
            index = end
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Whether this is `zone` or a name below it.
    public func isIn(_ zone: DNSName) -> Bool {
        var index = 0
        while wire.count - index > zone.wire.count { index += 1 + Int(wire[index]) }
        return wire[index...].elementsEqual(zone.wire)
    }
}

extension DNSName: CustomStringConvertible {
    /// For logs: what is no plain ASCII is shown as `\ddd`.
    public var description: String {
        var text = ""
        var index = 0
        while wire[index] != 0 {
            let end = index + 1 + Int(wire[index])
            for byte in wire[(index + 1)..<end] {
                if byte > 0x20, byte < 0x7f, byte != 0x2e, byte != 0x5c {
                    text.unicodeScalars.append(Unicode.Scalar(byte))
                } else {
                    let digits = String(byte)
                    text += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
                }
            }
            text += "."
            index = end
        }
        return text.isEmpty ? "." : text
    }
}
