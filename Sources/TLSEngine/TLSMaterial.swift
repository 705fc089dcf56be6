/// What one side of a mesh connection proves itself with and whom it believes.
public struct TLSMaterial: Sendable {
    /// DER certificates, the leaf first, then the intermediates towards the root.
    public let certificateChain: [[UInt8]]
    /// The leaf's private key: PKCS #8 or SEC 1 as DER, or PEM.
    public let privateKey: [UInt8]
    /// DER certificates that end a trusted chain.
    public let roots: [[UInt8]]
    /// The trust domain that clients must come from; nil takes that of our own leaf.
    public let trustDomain: String?
    /// Further trust domains that count as our own, in clients and in expected servers.
    public let trustDomainAliases: [String]
    /// DER certificates that end a trusted chain of the peers of a trust domain; ``roots`` do so for all others.
    public let rootsByTrustDomain: [String: [[UInt8]]]
    /// Peers' chains are held against its lists; `nil`: nothing is revoked.
    public let revocation: RevocationStore?
    /// No key exchange but X25519MLKEM768.
    public let requiresPostQuantum: Bool

    public init(
        certificateChain: [[UInt8]], privateKey: [UInt8], roots: [[UInt8]], trustDomain: String? = nil,
        trustDomainAliases: [String] = [], rootsByTrustDomain: [String: [[UInt8]]] = [:],
        revocation: RevocationStore? = nil, requiresPostQuantum: Bool = false
    ) {
        self.certificateChain = certificateChain
        self.privateKey = privateKey
        self.roots = roots
        self.trustDomain = trustDomain
        self.trustDomainAliases = trustDomainAliases
        self.rootsByTrustDomain = rootsByTrustDomain
        self.revocation = revocation
        self.requiresPostQuantum = requiresPostQuantum
    }
}
