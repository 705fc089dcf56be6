/// A block of addresses: base address and prefix length, the host bits zero.
public struct CIDR: Hashable, Sendable {
    public let base: IPAddress
    public let length: Int

    /// Masks the host bits away. `nil` when the length does not fit the family.
    public init?(_ address: IPAddress, length: Int) {
        guard (0...address.bitWidth).contains(length) else { return nil }
        base = address.masked(to: length)
        self.length = length
    }

    /// A single address.
    public init(_ address: IPAddress) {
        base = address
        length = address.bitWidth
    }

    @inlinable
    public func contains(_ address: IPAddress) -> Bool {
        address.family == base.family && address.masked(to: length) == base
    }
}

extension CIDR: LosslessStringConvertible {
    /// `10.0.0.0/8`, `fd00::/64`, or an address alone, which is a block of one.
    public init?(_ text: String) {
        guard let slash = text.firstIndex(of: "/") else {
            guard let address = IPAddress(text) else { return nil }
            self.init(address)
            return
        }
        let digits = text[text.index(after: slash)...]
        guard let address = IPAddress(text[..<slash]), (1...3).contains(digits.utf8.count),
            digits.utf8.allSatisfy({ (48...57).contains($0) }), let length = Int(digits)
        else { return nil }
        self.init(address, length: length)
    }

    public var description: String { "\(base)/\(length)" }
}

extension IPAddress {
    /// The address with all bits behind the prefix cleared.
    @inlinable
    public func masked(to length: Int) -> IPAddress {
        func mask(_ bits: Int) -> UInt64 { bits <= 0 ? 0 : bits >= 64 ? .max : ~(UInt64.max >> UInt64(bits)) }
        return isV4
            ? IPAddress(v4: UInt32(truncatingIfNeeded: low & mask(32 + length) & 0xffff_ffff))
            : IPAddress(v6High: high & mask(length), low: low & mask(length - 64))
    }
}
