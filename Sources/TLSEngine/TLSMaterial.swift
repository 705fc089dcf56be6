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
    /// Further trust domains whose clients are served as our own.
    public let trustDomainAliases: [String]

    public init(
        certificateChain: [[UInt8]], privateKey: [UInt8], roots: [[UInt8]], trustDomain: String? = nil,
        trustDomainAliases: [String] = []
    ) {
        self.certificateChain = certificateChain
        self.privateKey = privateKey
        self.roots = roots
        self.trustDomain = trustDomain
        self.trustDomainAliases = trustDomainAliases
    }
}
