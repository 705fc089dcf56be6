import Crypto
public import FoundationEssentials
public import Mesh
import Synchronization
import X509

/// Certificates from files, for set-ups without an authority. Nothing is fetched and nothing renewed.
public final class StaticCertificates: WorkloadCertificateSource {
    /// Files of one identity, all PEM.
    public struct Files: Sendable {
        /// Leaf first, then intermediates.
        public var chain: String
        /// An unencrypted P-256 key, mode 0600.
        public var key: String
        /// The trust bundle.
        public var roots: String

        public init(chain: String, key: String, roots: String) {
            self.chain = chain
            self.key = key
            self.roots = roots
        }
    }

    private let certificates: Mutex<[SPIFFEIdentity: WorkloadCertificate]>
    private let clock: any IdentityClock

    /// - Parameter certificates: Of one identity only the last counts.
    public init(_ certificates: [WorkloadCertificate], clock: any IdentityClock = SystemIdentityClock()) {
        self.clock = clock
        self.certificates = Mutex(
            Dictionary(certificates.map { ($0.identity, $0) }, uniquingKeysWith: { _, last in last }))
    }

    /// Reads the files and checks each set as an authority's answer is checked.
    ///
    /// - Throws: ``IdentityError``; `fileUnreadable`, `filePermissions` and `fileMalformed` beside what
    ///   ``IssuedChain/certificate(for:key:at:)`` throws.
    public convenience init(
        _ files: [SPIFFEIdentity: Files], clock: any IdentityClock = SystemIdentityClock()
    ) async throws(IdentityError) {
        var loaded: [WorkloadCertificate] = []
        for (identity, files) in files {
            loaded.append(try await Self.load(files, for: identity, at: clock.now()))
        }
        self.init(loaded, clock: clock)
    }

    /// Reads one set of files.
    public static func load(
        _ files: Files, for identity: SPIFFEIdentity, at time: Date
    ) async throws(IdentityError) -> WorkloadCertificate {
        guard let key = try SigningKeyFile.load(files.key) else {
            throw IdentityError(.fileUnreadable, "there is no key file \(files.key)")
        }
        let chain = try certificates(files.chain, IssuedChain.maximumChainLength)
        let roots = try certificates(files.roots, IssuedChain.maximumRoots)
        return try await IssuedChain(chainDER: chain, rootsDER: roots).certificate(for: identity, key: key, at: time)
    }

    private static func certificates(_ path: String, _ maximum: Int) throws(IdentityError) -> [[UInt8]] {
        try PEM.certificates(
            in: SecretFile.readMounted(path), maximumSize: IssuedChain.maximumAnswerSize, maximumCount: maximum,
            code: .fileMalformed, what: path)
    }

    public func cached(_ identity: SPIFFEIdentity) -> WorkloadCertificate? {
        let now = clock.now()
        return certificates.withLock { $0[identity].flatMap { $0.isValid(at: now) ? $0 : nil } }
    }

    public func certificate(
        for identity: SPIFFEIdentity, priority: CertificatePriority
    ) async throws -> WorkloadCertificate {
        if let certificate = cached(identity) { return certificate }
        throw IdentityError(.fileUnreadable, "no file holds a valid certificate for \(identity)")
    }

    /// Does nothing: everything there is was read at the start.
    public func prefetch(_ identity: SPIFFEIdentity) {}

    /// Does nothing: a file's certificate could not be fetched again.
    public func forget(_ identity: SPIFFEIdentity) {}

    /// Never calls: these certificates do not change.
    public func onRenewal(_ handler: @escaping @Sendable (WorkloadCertificate) -> Void) {}
}
