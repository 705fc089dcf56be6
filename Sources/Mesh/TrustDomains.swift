/// The trust domains that count as one: a local one and its aliases.
///
/// Certificates of any of them are believed alike, and an identity stands for the same service account under each name.
public struct TrustDomains: Hashable, Sendable {
    /// The pointer to the local trust domain, whatever that is called, in policies (istio/ztunnel#1260).
    public static let pointer = "cluster.local"

    /// The local one first, each once.
    public let names: [String]

    public var local: String { names[0] }

    public init(_ local: String, aliases: [String] = []) {
        var names = [local]
        for alias in aliases where !names.contains(alias) { names.append(alias) }
        self.names = names
    }

    @inlinable
    public func contains(_ name: String) -> Bool { names.contains(name) }

    /// Those that count as the given one: all of them if it is one of them, else it alone.
    public func companions(of name: String) -> TrustDomains {
        if name == local { return self }
        return contains(name) ? TrustDomains(name, aliases: names) : TrustDomains(name)
    }

    /// Whether two names stand for the same service account.
    public func match(_ left: SPIFFEIdentity, _ right: SPIFFEIdentity) -> Bool {
        left.namespace == right.namespace && left.serviceAccount == right.serviceAccount
            && (left.trustDomain == right.trustDomain || (contains(left.trustDomain) && contains(right.trustDomain)))
    }

    /// Whether a text can be a trust domain (SPIFFE-ID section 2.1: lower case letters, digits, dot, dash, underscore).
    public static func isValid(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count)
            && name.utf8.allSatisfy {
                (97...122).contains($0) || (48...57).contains($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-")
                    || $0 == UInt8(ascii: "_")
            }
    }
}
