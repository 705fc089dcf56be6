import Crypto
public import FoundationEssentials
import SwiftASN1
import X509

/// What an authority signs with, and what its certificates are verified by. A value; it holds a private key, so it is
/// never printed.
public struct AuthorityMaterial: Sendable, CustomStringConvertible {
    /// The roots to trust, PEM.
    public let rootPEM: String
    public let rootsDER: [[UInt8]]
    /// When the first certificate from the issuer up to its root ends; nothing signed lives longer.
    public let notAfter: Date

    let issuer: Certificate
    let key: Certificate.PrivateKey
    /// Between leaf and root, the issuer first; empty where the issuer is a root itself.
    let intermediatesDER: [[UInt8]]

    static let maximumSize = 1 << 20
    static let maximumChainLength = 8

    init(
        issuer: Certificate, key: Certificate.PrivateKey, intermediatesDER: [[UInt8]], rootsDER: [[UInt8]],
        notAfter: Date
    ) {
        self.issuer = issuer
        self.key = key
        self.intermediatesDER = intermediatesDER
        self.rootsDER = rootsDER
        self.notAfter = notAfter
        rootPEM = rootsDER.map { PEM.block("CERTIFICATE", $0) }.joined()
    }

    /// Signs with the same key and is verified by the same certificates.
    public func isSame(as other: AuthorityMaterial) -> Bool {
        issuer == other.issuer && key == other.key && intermediatesDER == other.intermediatesDER
            && rootsDER == other.rootsDER
    }

    public var description: String { "an authority's key and \(rootsDER.count) roots" }

    /// Reads an authority in the parts that Istio's `cacerts` and `istio-ca-secret` have.
    ///
    /// - Parameters:
    ///   - certificatePEM: `ca-cert.pem`: whose key signs.
    ///   - keyPEM: `ca-key.pem`: ECDSA P-256 or P-384, or RSA, unencrypted.
    ///   - chainPEM: `cert-chain.pem`: authorities from there up to the root; may repeat `ca-cert.pem` and the root, may
    ///     be empty where the root signed `ca-cert.pem`.
    ///   - rootsPEM: `root-cert.pem`: all roots to trust; the authority's own must be among them.
    ///   - name: Where the parts stand, for errors.
    /// - Throws: ``IdentityError``: `fileMalformed`, `keyMismatch`, `unsupportedKey`, `chainInvalid` when the chain does
    ///   not lead to one of the roots, `authorityExpired`.
    public init(
        certificatePEM: String, keyPEM: String, chainPEM: String, rootsPEM: String, name: String, now: Date
    ) throws(IdentityError) {
        func read(_ text: String, _ part: String, _ count: Int) throws(IdentityError) -> [[UInt8]] {
            try PEM.certificates(
                in: text, maximumSize: Self.maximumSize, maximumCount: count, code: .fileMalformed,
                what: "\(part) of \(name)")
        }
        func parse(_ der: [UInt8], _ part: String) throws(IdentityError) -> Certificate {
            do {
                return try Certificate(derEncoded: der)
            } catch {
                throw IdentityError(.fileMalformed, "\(part) of \(name) holds no certificate", cause: error)
            }
        }
        let ownDER = try read(certificatePEM, "ca-cert.pem", Self.maximumChainLength)
        let issuer = try parse(ownDER[0], "ca-cert.pem")
        let key = try Self.key(keyPEM, name)
        guard issuer.publicKey == key.publicKey else {
            throw IdentityError(
                .keyMismatch, "ca-cert.pem and ca-key.pem of \(name) do not belong together",
                hint: "put both in from one source")
        }
        let rootsDER = try read(rootsPEM, "root-cert.pem", IssuedChain.maximumRoots)
        let isEmpty = chainPEM.allSatisfy(\.isWhitespace)
        let above = try isEmpty ? [] : read(chainPEM, "cert-chain.pem", Self.maximumChainLength)
        var path = [ownDER[0]]
        for der in ownDER.dropFirst() + above where !path.contains(der) { path.append(der) }
        path.removeAll { rootsDER.contains($0) }
        let roots = try rootsDER.map { der throws(IdentityError) in try parse(der, "root-cert.pem") }
        let authorities = try path.map { der throws(IdentityError) in try parse(der, "cert-chain.pem") }
        let root = try Self.check(issuer, authorities, roots, name)
        let whole = authorities + [root]
        for certificate in whole {
            guard certificate.notValidBefore <= now, now < certificate.notValidAfter else {
                throw IdentityError(
                    .authorityExpired,
                    "\(name): the authority \(certificate.subject) is valid from \(certificate.notValidBefore) to "
                        + "\(certificate.notValidAfter), not now", hint: "check the clock, or replace the authority")
            }
        }
        let end = whole.map(\.notValidAfter).min() ?? root.notValidAfter
        self.init(issuer: issuer, key: key, intermediatesDER: path, rootsDER: rootsDER, notAfter: end)
    }

    private static func key(_ pem: String, _ name: String) throws(IdentityError) -> Certificate.PrivateKey {
        let key: Certificate.PrivateKey
        do {
            var pem = pem
            pem.makeContiguousUTF8()
            key = try Certificate.PrivateKey(pemEncoded: pem)
        } catch {
            // The library's error may quote what it read, so it stays out of ours.
            throw IdentityError(.fileMalformed, "ca-key.pem of \(name) is not an unencrypted private key in PEM")
        }
        // What TLS peers of a mesh understand.
        guard P521.Signing.PublicKey(key.publicKey) == nil, Curve25519.Signing.PublicKey(key.publicKey) == nil else {
            throw IdentityError(
                .unsupportedKey, "ca-key.pem of \(name) is of an unsupported kind",
                hint: "use ECDSA P-256 or P-384, or RSA")
        }
        return key
    }

    /// Each authority is signed by the next, the last by a root.
    /// - Returns: That root.
    private static func check(
        _ issuer: Certificate, _ path: [Certificate], _ roots: [Certificate], _ name: String
    ) throws(IdentityError) -> Certificate {
        for certificate in path + [issuer] {
            let constraints: BasicConstraints?
            let usage: KeyUsage?
            do {
                constraints = try certificate.extensions.basicConstraints
                usage = try certificate.extensions.keyUsage
            } catch {
                throw IdentityError(.fileMalformed, "\(name): an extension is malformed", cause: error)
            }
            guard case .isCertificateAuthority = constraints, usage?.keyCertSign ?? true else {
                throw IdentityError(
                    .chainInvalid, "\(name): \(certificate.subject) is no authority that may sign certificates")
            }
        }
        func isSigned(_ certificate: Certificate, by other: Certificate) -> Bool {
            certificate.issuer == other.subject
                && other.publicKey.isValidSignature(certificate.signature, for: certificate)
        }
        for (certificate, next) in zip(path, path.dropFirst()) where !isSigned(certificate, by: next) {
            throw IdentityError(
                .chainInvalid, "\(name): \(certificate.subject) is not signed by \(next.subject)",
                hint: "cert-chain.pem begins at ca-cert.pem and goes up to the root")
        }
        // Without anything between, the issuer is a root itself.
        let found = path.last.map { top in roots.first { isSigned(top, by: $0) } } ?? roots.first { $0 == issuer }
        guard let root = found else {
            throw IdentityError(
                .chainInvalid, "\(name): no root in root-cert.pem has signed \((path.last ?? issuer).subject)",
                hint: "root-cert.pem must hold the root that ca-cert.pem leads to")
        }
        return root
    }
}

extension AuthorityMaterial {
    /// A new root of ten years with a P-256 key, which signs workloads' certificates itself.
    /// - Parameter trustDomain: Names the root.
    /// - Returns: The parts, PEM; what is made of them is checked as any other.
    public static func makeParts(
        trustDomain: String, now: Date, validity: Duration? = nil
    ) throws(IdentityError) -> (certificatePEM: String, keyPEM: String) {
        let key = P256.Signing.PrivateKey()
        let root = try EmbeddedCA.makeRoot(
            key: key, trustDomain: trustDomain, now: now, validity: validity ?? EmbeddedCA.rootValidity)
        return (root, key.pemRepresentation + "\n")
    }
}
