import Crypto
public import FoundationEssentials
import SwiftASN1
import Synchronization
import X509

/// A certificate authority: issues workload certificates with what it is given, which may change while it runs, or with a
/// self-signed P-256 root of its own in a directory.
///
/// There, `ca.key` (mode 0600) and `root-cert.pem` are made once and loaded ever after. The root lives ten years; nothing
/// renews it, so ``rootNotAfter`` is worth watching.
public final class EmbeddedCA: Sendable {
    public static let keyFileName = "ca.key"
    public static let rootFileName = "root-cert.pem"

    /// Of a certificate for which no lifetime was asked.
    public static let defaultValidity = Duration.seconds(24 * 3600)
    /// Asking for more is an error.
    public static let maximumValidity = Duration.seconds(90 * 24 * 3600)
    static let rootValidity = Duration.seconds(10 * 365 * 24 * 3600)
    /// Certificates begin this much earlier, for peers whose clocks are behind.
    static let backdating = Duration.seconds(120)

    /// Identities of other trust domains are refused.
    public let trustDomain: String
    /// The roots to trust, PEM.
    public var rootPEM: String { material.rootPEM }
    /// The first of them.
    public var rootDER: [UInt8] { material.rootsDER[0] }
    /// When signing ends.
    public var rootNotAfter: Date { material.notAfter }

    private let current: Mutex<AuthorityMaterial>
    /// What is signed with now.
    public var material: AuthorityMaterial { current.withLock { $0 } }

    /// An authority of given parts.
    public init(_ material: AuthorityMaterial, trustDomain: String) {
        current = Mutex(material)
        self.trustDomain = trustDomain
    }

    /// Signs with other parts from now on.
    public func replace(with material: AuthorityMaterial) { current.withLock { $0 = material } }

    /// Opens the authority in `directory`, which only its owner may enter, and makes it if there is none.
    ///
    /// - Parameters:
    ///   - directory: Made with mode 0700 if it does not exist; its parent must.
    ///   - trustDomain: Whose identities are signed; it names the root, too, when that is made.
    ///   - now: The time the root begins at when it is made, and has to be valid at when it is loaded.
    /// - Throws: ``IdentityError``: `filePermissions` when others have access to directory or key, `keyMismatch` when
    ///   key and root do not belong together, `incompleteAuthority` when a root has lost its key, `authorityExpired`,
    ///   `fileMalformed`, `fileUnreadable`.
    public init(directory: String, trustDomain: String, now: Date) throws(IdentityError) {
        try SecretFile.prepareDirectory(directory)
        let keyPath = directory + "/" + Self.keyFileName
        let rootPath = directory + "/" + Self.rootFileName
        let storedRoot = try SecretFile.read(rootPath, .public)
        let key: P256.Signing.PrivateKey
        if storedRoot != nil {
            guard let stored = try SigningKeyFile.load(keyPath) else {
                throw IdentityError(
                    .incompleteAuthority, "\(rootPath) exists and \(keyPath) does not",
                    hint: "restore the key, or remove the root to start a new authority")
            }
            key = stored
        } else {
            // A key without a root is a start that was cut short: the root is made again for the same key.
            key = try SigningKeyFile.loadOrCreate(keyPath)
        }
        let pem: String
        if let storedRoot {
            pem = storedRoot
        } else {
            let made = try Self.makeRoot(
                key: key, trustDomain: trustDomain, now: now, validity: Self.rootValidity)
            if try SecretFile.create(rootPath, made, .public) {
                pem = made
            } else {
                pem = try SecretFile.read(rootPath, .public) ?? ""
            }
        }
        let (root, der) = try Self.checkedRoot(pem, path: rootPath, key: key, now: now)
        current = Mutex(
            AuthorityMaterial(
                issuer: root, key: Certificate.PrivateKey(key), intermediatesDER: [], rootsDER: [der],
                notAfter: root.notValidAfter))
        self.trustDomain = trustDomain
    }

    private static func checkedRoot(
        _ pem: String, path: String, key: P256.Signing.PrivateKey, now: Date
    ) throws(IdentityError) -> (Certificate, [UInt8]) {
        let der = try PEM.certificates(
            in: pem, maximumSize: PEM.maximumCertificateSize * 2, maximumCount: 1, code: .fileMalformed, what: path)[0]
        let root: Certificate
        let constraints: BasicConstraints?
        do {
            root = try Certificate(derEncoded: der)
            constraints = try root.extensions.basicConstraints
        } catch {
            throw IdentityError(.fileMalformed, "\(path) is not a certificate", cause: error)
        }
        guard root.publicKey == Certificate.PublicKey(key.publicKey) else {
            throw IdentityError(
                .keyMismatch, "\(path) and \(keyFileName) beside it do not belong together",
                hint: "restore the pair from one backup, or remove both to start a new authority")
        }
        guard case .isCertificateAuthority = constraints, root.publicKey.isValidSignature(root.signature, for: root)
        else {
            throw IdentityError(.fileMalformed, "\(path) is not the self-signed certificate of an authority")
        }
        guard root.notValidBefore <= now, now < root.notValidAfter else {
            throw IdentityError(
                .authorityExpired, "\(path) is valid from \(root.notValidBefore) to \(root.notValidAfter), not now",
                hint: "check the clock, or remove both files to start a new authority")
        }
        return (root, der)
    }

    static func makeRoot(
        key: P256.Signing.PrivateKey, trustDomain: String, now: Date, validity: Duration
    ) throws(IdentityError) -> String {
        do {
            let name = try DistinguishedName {
                OrganizationName(trustDomain)
                CommonName("Apus root")
            }
            let publicKey = Certificate.PublicKey(key.publicKey)
            let begin = now - backdating.timeInterval
            let root = try Certificate(
                version: .v3,
                serialNumber: .random128(),
                publicKey: publicKey,
                notValidBefore: begin,
                notValidAfter: begin + validity.timeInterval,
                issuer: name,
                subject: name,
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: try Certificate.Extensions {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                    Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                    SubjectKeyIdentifier(hash: publicKey)
                },
                issuerPrivateKey: Certificate.PrivateKey(key))
            return try root.serializeAsPEM().pemString + "\n"
        } catch {
            throw .wrapping(error, .cryptography, "cannot make a root certificate")
        }
    }
}

extension Certificate.SerialNumber {
    /// Unpredictable, positive and always of sixteen bytes: 126 random bits behind the sign and a one.
    static func random128() -> Certificate.SerialNumber {
        var generator = SystemRandomNumberGenerator()
        let number = UInt128(generator.next()) << 64 | UInt128(generator.next())
        return Certificate.SerialNumber(number & (UInt128.max >> 2) | 1 << 126)
    }
}
