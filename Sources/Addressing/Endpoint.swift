/// An address with a TCP or UDP port, written `10.0.0.1:80` or `[fd00::1]:80`.
public struct Endpoint: Hashable, Sendable, Comparable {
    public var address: IPAddress
    public var port: UInt16

    @inlinable
    public init(_ address: IPAddress, _ port: UInt16) {
        self.address = address
        self.port = port
    }

    /// IPv4 where the address is IPv4-mapped.
    @inlinable public var canonical: Endpoint { Endpoint(address.canonical, port) }

    public static func < (left: Endpoint, right: Endpoint) -> Bool {
        (left.address, left.port) < (right.address, right.port)
    }
}

extension Endpoint: LosslessStringConvertible {
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        var host = text[..<colon]
        let digits = text[text.index(after: colon)...]
        guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (48...57).contains($0) }),
            let port = UInt16(digits)
        else { return nil }
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        guard let address = IPAddress(host) else { return nil }
        self.init(address, port)
    }

    public var description: String {
        guard address.isV4 else { return "[\(address)]:\(port)" }
        return DecimalText.string(21) { text in
            DecimalText.put(v4: address.v4Value, &text)
            text.append(UInt8(ascii: ":"))
            DecimalText.put(UInt32(port), &text)
        }
    }
}
