public import Addressing
import Crypto
import FoundationEssentials
public import Mesh
import SwiftASN1
import X509

/// A certificate and key for a server that is no workload: the controller's own.
public struct ServerCertificate: Sendable {
    /// Leaf, what is between, then the roots.
    public let chainPEM: String
    /// PKCS #8, PEM.
    public let privateKeyPEM: String
    public let notAfter: Date
}

extension EmbeddedCA {
    /// Issues a certificate for `identity` and the key of a signing request.
    ///
    /// Whether the caller may have that identity is decided before; names and wishes in the request are ignored, save
    /// that asking to become an authority is refused.
    ///
    /// - Parameters:
    ///   - validity: `nil`, zero and less mean ``defaultValidity``. A certificate never outlives the root.
    ///   - now: The certificate begins two minutes earlier.
    /// - Throws: ``IdentityError``: `requestTooLarge`, `requestMalformed`, `requestSignature`, `requestsAuthority`,
    ///   `unsupportedKey`, `identityRefused`, `validityTooLong`, `authorityExpired`.
    public func sign(
        csrPEM: String, for identity: SPIFFEIdentity, validity: Duration?, now: Date
    ) throws(IdentityError) -> IssuedChain {
        guard identity.trustDomain == trustDomain else {
            throw IdentityError(
                .identityRefused, "\(identity) is not of the trust domain \(trustDomain) that this authority serves")
        }
        // What is signed must be an identity to those who read it, too.
        guard SPIFFEIdentity(identity.description) == identity else {
            throw IdentityError(.identityRefused, "the identity has characters that a SPIFFE id cannot have")
        }
        let material = material
        let notAfter = try Self.end(validity, now, material)
        let publicKey = try SigningRequestCheck.publicKey(ofRequest: csrPEM)
        let leaf = try Self.issue(
            publicKey, by: material, subject: DistinguishedName(), notBefore: now - Self.backdating.timeInterval,
            notAfter: notAfter,
            usages: [.serverAuth, .clientAuth],
            names: Critical(SubjectAlternativeNames([.uniformResourceIdentifier(identity.description)])))
        return IssuedChain(chainDER: [leaf] + material.intermediatesDER, rootsDER: material.rootsDER)
    }

    /// Issues a certificate for a TLS server with a fresh P-256 key.
    ///
    /// - Parameters:
    ///   - names: DNS names; the first one is the common name, too.
    ///   - addresses: IP addresses that clients dial without a name.
    /// - Throws: ``IdentityError``: `configuration` without any name, `validityTooLong`, `authorityExpired`.
    public func serverCertificate(
        names: [String], addresses: [IPAddress], validity: Duration? = nil, now: Date
    ) throws(IdentityError) -> ServerCertificate {
        guard let first = names.first ?? addresses.first?.description else {
            throw IdentityError(.configuration, "a server certificate needs a name or an address")
        }
        let subject: DistinguishedName
        do {
            subject = try DistinguishedName { CommonName(first) }
        } catch {
            throw IdentityError(.configuration, "\(first) cannot be the name of a server", cause: error)
        }
        let material = material
        let key = P256.Signing.PrivateKey()
        let notAfter = try Self.end(validity, now, material)
        let leaf = try Self.issue(
            Certificate.PublicKey(key.publicKey), by: material, subject: subject,
            notBefore: now - Self.backdating.timeInterval,
            notAfter: notAfter, usages: [.serverAuth],
            names: SubjectAlternativeNames(
                names.map { .dnsName($0) }
                    + addresses.map { .ipAddress(ASN1OctetString(contentBytes: $0.bytes[...])) }))
        return ServerCertificate(
            chainPEM: ([leaf] + material.intermediatesDER).map { PEM.block("CERTIFICATE", $0) }.joined()
                + material.rootPEM, privateKeyPEM: key.pemRepresentation + "\n",
            notAfter: notAfter)
    }

    private static func end(
        _ validity: Duration?, _ now: Date, _ material: AuthorityMaterial
    ) throws(IdentityError) -> Date {
        var validity = validity ?? Self.defaultValidity
        if validity <= .zero { validity = Self.defaultValidity }
        guard validity <= Self.maximumValidity else {
            throw IdentityError(
                .validityTooLong,
                "a lifetime of \(validity.components.seconds) s was asked for; at most "
                    + "\(Self.maximumValidity.components.seconds) s are given")
        }
        guard now < material.notAfter else {
            throw IdentityError(.authorityExpired, "the authority expired at \(material.notAfter)")
        }
        return min(now + validity.timeInterval, material.notAfter)
    }

    private static func issue(
        _ publicKey: Certificate.PublicKey, by material: AuthorityMaterial, subject: DistinguishedName,
        notBefore: Date, notAfter: Date, usages: [ExtendedKeyUsage.Usage], names: some CertificateExtensionConvertible
    ) throws(IdentityError) -> [UInt8] {
        do {
            let authority = try material.issuer.extensions.subjectKeyIdentifier
            let leaf = try Certificate(
                version: .v3,
                serialNumber: .random128(),
                publicKey: publicKey,
                notValidBefore: max(notBefore, material.issuer.notValidBefore),
                notValidAfter: notAfter,
                issuer: material.issuer.subject,
                subject: subject,
                extensions: try Certificate.Extensions {
                    Critical(BasicConstraints.notCertificateAuthority)
                    Critical(KeyUsage(digitalSignature: true, keyEncipherment: true))
                    try ExtendedKeyUsage(usages)
                    AuthorityKeyIdentifier(keyIdentifier: authority?.keyIdentifier)
                    names
                },
                issuerPrivateKey: material.key)
            var serializer = DER.Serializer()
            try serializer.serialize(leaf)
            return serializer.serializedBytes
        } catch {
            throw .wrapping(error, .cryptography, "cannot sign a certificate")
        }
    }
}
