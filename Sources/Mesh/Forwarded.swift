import Addressing

/// The `forwarded` header of an HBONE request (RFC 7239): who opened the connection, and the service it addressed.
public struct Forwarded: Hashable, Sendable {
    public var source: Endpoint?
    /// Host name of the service.
    public var host: String?

    public static let maximumLength = 1024

    public init(source: Endpoint?, host: String? = nil) {
        self.source = source
        self.host = host
    }

    /// `for="10.0.0.1:80";host=reviews.default.svc.cluster.local`
    public var headerValue: String {
        var text = source.map { "for=\"" + $0.description + "\"" } ?? ""
        if let host { text += text.isEmpty ? "host=" + host : ";host=" + host }
        return text
    }

    /// Reads the first element of the header; `nil` when it is malformed or longer than ``maximumLength``. Parameters
    /// other than `for` and `host` are passed over, and so is a `for` that is no address with a port.
    public init?(headerValue: String) {
        let bytes = Array(headerValue.utf8)
        guard bytes.count <= Self.maximumLength else { return nil }
        var reader = Reader(bytes: bytes)
        self.init(source: nil)
        repeat {
            guard let (name, value) = reader.pair() else { return nil }
            switch name {
            case "for": source = Endpoint(value)?.canonical
            case "host": host = Self.isHost(value) ? value.lowercased() : nil
            default: break
            }
        } while reader.take(UInt8(ascii: ";"))
        guard reader.isAtEnd || reader.take(UInt8(ascii: ",")) else { return nil }
    }

    /// The host alone, for whoever needs nothing else: most headers have none, and are not read for it.
    public static func host(in headerValue: String) -> String? {
        // No address and no other parameter that is sent in this mesh has this letter, the first of "host".
        guard headerValue.utf8.contains(where: { $0 | 0x20 == UInt8(ascii: "h") }) else { return nil }
        return Forwarded(headerValue: headerValue)?.host
    }

    private static func isHost(_ text: String) -> Bool {
        HBONEAuthority("\(text):1") != nil
    }

    /// `token "=" (token | quoted-string)`, with a colon allowed in a bare value as some senders leave the quotes out.
    private struct Reader {
        let bytes: [UInt8]
        var index = 0

        var isAtEnd: Bool { index == bytes.count }

        mutating func take(_ byte: UInt8) -> Bool {
            skipSpace()
            guard index < bytes.count, bytes[index] == byte else { return false }
            index += 1
            return true
        }

        mutating func pair() -> (name: String, value: String)? {
            skipSpace()
            let name = run(Self.isToken)
            guard !name.isEmpty, take(UInt8(ascii: "=")) else { return nil }
            let value = index < bytes.count && bytes[index] == UInt8(ascii: "\"") ? quoted() : run(Self.isBare)
            guard let value, !value.isEmpty else { return nil }
            skipSpace()
            return (String(decoding: name, as: UTF8.self).lowercased(), String(decoding: value, as: UTF8.self))
        }

        private mutating func quoted() -> [UInt8]? {
            index += 1
            var value: [UInt8] = []
            while index < bytes.count {
                var byte = bytes[index]
                index += 1
                if byte == UInt8(ascii: "\"") { return value }
                if byte == UInt8(ascii: "\\") {
                    guard index < bytes.count else { return nil }
                    byte = bytes[index]
                    index += 1
                }
                guard (0x20...0x7e).contains(byte) else { return nil }
                value.append(byte)
            }
            return nil
        }

        private mutating func run(_ isPart: (UInt8) -> Bool) -> [UInt8] {
            let start = index
            while index < bytes.count, isPart(bytes[index]) { index += 1 }
            return Array(bytes[start..<index])
        }

        private mutating func skipSpace() {
            while index < bytes.count, bytes[index] == 0x20 || bytes[index] == 0x09 { index += 1 }
        }

        private static func isToken(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "a")...UInt8(ascii: "z"):
                true
            default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
        }

        private static func isBare(_ byte: UInt8) -> Bool { isToken(byte) || ":[]".utf8.contains(byte) }
    }
}
