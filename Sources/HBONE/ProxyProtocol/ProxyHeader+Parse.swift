import Addressing

/// Why bytes are no header of PROXY protocol version 2.
public enum ProxyHeaderError: Error, Hashable, Sendable {
    /// They do not begin with its signature; version 1 (text) does not either.
    case notProxyProtocol
    case unknownVersion(UInt8)
    case unknownCommand(UInt8)
    /// Longer than ``ProxyHeader/maximumLength``.
    case tooLong(Int)
    /// The addresses of its family do not fit.
    case shortAddresses
    /// A value reaches beyond the end.
    case shortValue(type: UInt8)
}

extension ProxyHeader {
    /// Reads a header at the front of what has come so far.
    /// - Returns: The header and how many bytes it takes, or nil while more must come. What cannot become a header any
    ///   more is an error at once.
    public static func parse(_ bytes: RawSpan) throws(ProxyHeaderError) -> (header: ProxyHeader, length: Int)? {
        for index in 0..<min(bytes.byteCount, signature.count) where bytes.byte(at: index) != signature[index] {
            throw .notProxyProtocol
        }
        guard bytes.byteCount >= prefixLength else { return nil }
        let kind = bytes.byte(at: 12)
        guard kind >> 4 == 2 else { throw .unknownVersion(kind >> 4) }
        guard kind & 15 <= 1 else { throw .unknownCommand(kind & 15) }
        let length = prefixLength + Int(bytes.integer(at: 14, 2))
        guard length <= maximumLength else { throw .tooLong(length) }
        guard bytes.byteCount >= length else { return nil }
        // A LOCAL connection is the proxy's own; what else stands there is discarded (section 2.2).
        guard kind & 15 == 1 else { return (ProxyHeader(ends: nil), length) }
        let body = bytes.extracting(prefixLength..<length)
        let family = bytes.byte(at: 13)
        let (ends, valuesAt) = try readEnds(body, family)
        return (ProxyHeader(ends: ends, values: try readValues(body, from: valuesAt)), length)
    }

    /// The ends, and where the values begin.
    private static func readEnds(_ body: RawSpan, _ family: UInt8) throws(ProxyHeaderError) -> (Ends?, Int) {
        let size: Int
        switch family >> 4 {
        case 1: size = 4
        case 2: size = 16
        // AF_UNIX: two paths of 108 bytes.
        case 3:
            guard body.byteCount >= 216 else { throw .shortAddresses }
            return (nil, 216)
        // What the family does not tell must be skipped whole (section 2.2).
        default: return (nil, body.byteCount)
        }
        guard body.byteCount >= 2 * size + 4 else { throw .shortAddresses }
        func address(_ offset: Int) -> IPAddress? {
            IPAddress(bytes: (0..<size).map { body.byte(at: offset + $0) })
        }
        guard family & 15 == 1, let source = address(0), let destination = address(size) else {
            return (nil, 2 * size + 4)
        }
        let ends = Ends(
            source: Endpoint(source, UInt16(body.integer(at: 2 * size, 2))),
            destination: Endpoint(destination, UInt16(body.integer(at: 2 * size + 2, 2))))
        return (ends, 2 * size + 4)
    }

    private static func readValues(_ body: RawSpan, from start: Int) throws(ProxyHeaderError) -> [Value] {
        var values: [Value] = []
        var position = start
        while position < body.byteCount {
            let type = body.byte(at: position)
            guard body.byteCount - position >= 3 else { throw .shortValue(type: type) }
            let end = position + 3 + Int(body.integer(at: position + 1, 2))
            guard end <= body.byteCount else { throw .shortValue(type: type) }
            values.append(Value(type: type, bytes: (position + 3..<end).map { body.byte(at: $0) }))
            position = end
        }
        return values
    }
}
