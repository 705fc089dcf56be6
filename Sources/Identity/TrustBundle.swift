/// Roots that an operator adds to those that come with certificates.
public struct TrustBundle: Sendable, Hashable {
    /// The trust domains whose identities these roots vouch for, and nobody else's; every one's when empty.
    public let trustDomains: [String]
    public let rootsDER: [[UInt8]]

    public init(trustDomains: [String], rootsDER: [[UInt8]]) {
        self.trustDomains = trustDomains
        self.rootsDER = rootsDER
    }

    /// - Parameters:
    ///   - pem: One certificate or more.
    ///   - name: Where it stands, for the error.
    /// - Throws: ``IdentityError`` with `fileMalformed`.
    public init(pem: String, trustDomains: [String], named name: String) throws(IdentityError) {
        self.init(
            trustDomains: trustDomains,
            rootsDER: try PEM.certificates(
                in: pem, maximumSize: IssuedChain.maximumAnswerSize, maximumCount: IssuedChain.maximumRoots,
                code: .fileMalformed, what: name))
    }
}
