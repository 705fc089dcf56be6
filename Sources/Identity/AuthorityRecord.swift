public import FoundationEssentials
import X509

/// A self-made authority as it is kept, and the steps by which its root is replaced while everybody stays connected. A
/// value.
///
/// A root is replaced in three steps. First the next root is announced: it is trusted, and nothing is signed by it yet.
/// When everybody has fetched a certificate since, and the roots with it, the next root signs; the old one stays trusted
/// until the last certificate it signed has ended. At any moment two proxies that keep their certificates renewed trust
/// the roots of each other.
public struct AuthorityRecord: Sendable, CustomStringConvertible {
    /// How long the steps take.
    public struct Times: Sendable, Hashable {
        /// From a root's announcement until it signs. Longer than the lifetime of proxies' certificates.
        public var announcement = Duration.seconds(48 * 3600)
        /// From then until the old one is no longer trusted: the longest lifetime that certificates can have.
        public var retirement = EmbeddedCA.maximumValidity
        /// The part of a root's life that is left when the next one is made.
        public var renewAtRemaining = 0.2
        /// Of a new root.
        public var rootValidity = Duration.seconds(10 * 365 * 24 * 3600)

        public init() {}
    }

    public enum Phase: String, Sendable, Hashable {
        case steady
        /// The next root is trusted and does not sign.
        case announcing
        /// The next root has become the one that signs; the one before is trusted.
        case retiring
    }

    /// Names of the parts, those of Istio's Secret where it has them.
    enum Part {
        static let certificate = "ca-cert.pem"
        static let key = "ca-key.pem"
        static let roots = "root-cert.pem"
        static let nextCertificate = "next-ca-cert.pem"
        static let nextKey = "next-ca-key.pem"
        static let since = "rotation-since"
    }

    public let trustDomain: String
    public private(set) var material: AuthorityMaterial
    /// When the present step began.
    public private(set) var since: Date
    private var certificatePEM: String
    private var keyPEM: String
    private var next: (certificatePEM: String, keyPEM: String)?
    /// Trusted and not signing: the one before, or the next.
    private var otherRootsPEM: String

    public var phase: Phase { next != nil ? .announcing : otherRootsPEM.isEmpty ? .steady : .retiring }

    public var description: String { "an authority of \(trustDomain), \(phase.rawValue)" }

    /// A new authority with a root of its own.
    public init(trustDomain: String, now: Date, times: Times = Times()) throws(IdentityError) {
        let made = try AuthorityMaterial.makeParts(
            trustDomain: trustDomain, now: now, validity: times.rootValidity)
        try self.init(
            trustDomain: trustDomain, certificatePEM: made.certificatePEM, keyPEM: made.keyPEM, next: nil,
            otherRootsPEM: "", since: now, now: now)
    }

    /// Reads the parts of a Secret. One that Istio made is taken on as it is.
    ///
    /// - Parameter parts: By name, each PEM, and `rotation-since` as a number of seconds since 1970.
    /// - Throws: ``IdentityError``, which names the part: `fileMalformed`, `keyMismatch`, `chainInvalid`,
    ///   `authorityExpired`.
    public init(parts: [String: String], trustDomain: String, name: String, now: Date) throws(IdentityError) {
        guard let certificate = parts[Part.certificate], let key = parts[Part.key] else {
            throw IdentityError(
                .incompleteAuthority, "\(name) has no \(parts[Part.certificate] == nil ? Part.certificate : Part.key)",
                hint: "restore it from a backup, or delete it to start a new authority")
        }
        var next: (certificatePEM: String, keyPEM: String)?
        if let certificate = parts[Part.nextCertificate] {
            guard let key = parts[Part.nextKey] else {
                throw IdentityError(
                    .incompleteAuthority, "\(name) has \(Part.nextCertificate) and no \(Part.nextKey)",
                    hint: "restore it from a backup, or remove \(Part.nextCertificate)")
            }
            next = (certificate, key)
        }
        let own = try Self.certificates(certificate, name)
        var others: [[UInt8]] = []
        // Istio leaves it empty now and then.
        if let roots = parts[Part.roots], !roots.allSatisfy(\.isWhitespace) {
            others = try Self.certificates(roots, name).filter { !own.contains($0) }
        }
        let seconds = parts[Part.since].flatMap { Double($0) }
        try self.init(
            trustDomain: trustDomain, certificatePEM: certificate, keyPEM: key, next: next,
            otherRootsPEM: others.map { PEM.block("CERTIFICATE", $0) }.joined(),
            since: seconds.map { Date(timeIntervalSince1970: $0) } ?? now, now: now, name: name)
    }

    private init(
        trustDomain: String, certificatePEM: String, keyPEM: String, next: (certificatePEM: String, keyPEM: String)?,
        otherRootsPEM: String, since: Date, now: Date, name: String = "the authority"
    ) throws(IdentityError) {
        self.trustDomain = trustDomain
        self.certificatePEM = certificatePEM
        self.keyPEM = keyPEM
        self.next = next
        self.otherRootsPEM = otherRootsPEM
        self.since = since
        material = try AuthorityMaterial(
            certificatePEM: certificatePEM, keyPEM: keyPEM, chainPEM: "", rootsPEM: certificatePEM + otherRootsPEM,
            name: name, now: now)
    }

    private static func certificates(_ pem: String, _ name: String) throws(IdentityError) -> [[UInt8]] {
        try PEM.certificates(
            in: pem, maximumSize: AuthorityMaterial.maximumSize, maximumCount: IssuedChain.maximumRoots,
            code: .fileMalformed, what: name)
    }

    /// What is kept: keys among it.
    public var parts: [String: String] {
        var parts = [
            Part.certificate: certificatePEM, Part.key: keyPEM, Part.roots: material.rootPEM, "cert-chain.pem": "",
            Part.since: String(Int64(since.timeIntervalSince1970)),
        ]
        parts[Part.nextCertificate] = next?.certificatePEM
        parts[Part.nextKey] = next?.keyPEM
        return parts
    }

    /// Whether the root has so little life left that it is to be replaced.
    public func isDue(at now: Date, times: Times = Times()) -> Bool {
        let life = material.issuer.notValidAfter.timeIntervalSince(material.issuer.notValidBefore)
        return material.issuer.notValidAfter.timeIntervalSince(now) < life * times.renewAtRemaining
    }

    /// Takes the next step when it is time for it.
    ///
    /// - Parameter isWanted: A new root is asked for, whatever life the present one has left.
    /// - Returns: Whether anything differs and is to be kept before it is used.
    /// - Throws: ``IdentityError`` `cryptography`.
    public mutating func advance(
        to now: Date, times: Times = Times(), isWanted: Bool = false
    ) throws(IdentityError) -> Bool {
        let elapsed = now.timeIntervalSince(since)
        switch phase {
        case .steady:
            guard isWanted || isDue(at: now, times: times) else { return false }
            let made = try AuthorityMaterial.makeParts(
                trustDomain: trustDomain, now: now, validity: times.rootValidity)
            self = try AuthorityRecord(
                trustDomain: trustDomain, certificatePEM: certificatePEM, keyPEM: keyPEM, next: made,
                otherRootsPEM: made.certificatePEM, since: now, now: now)
        case .announcing:
            guard let next, elapsed >= times.announcement.timeInterval else { return false }
            self = try AuthorityRecord(
                trustDomain: trustDomain, certificatePEM: next.certificatePEM, keyPEM: next.keyPEM, next: nil,
                otherRootsPEM: certificatePEM, since: now, now: now)
        case .retiring:
            guard elapsed >= times.retirement.timeInterval else { return false }
            self = try AuthorityRecord(
                trustDomain: trustDomain, certificatePEM: certificatePEM, keyPEM: keyPEM, next: nil,
                otherRootsPEM: "", since: now, now: now)
        }
        return true
    }
}
