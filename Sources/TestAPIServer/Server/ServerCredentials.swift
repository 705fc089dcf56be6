import Crypto
import Foundation
import NIOSSL
import SwiftASN1
import X509

/// The authority of a server, what it signed, and who may come in.
struct ServerCredentials: Sendable {
    /// PEM.
    let authority: String
    let serverCertificate: String
    let serverKey: String
    /// Of the administrator.
    let clientCertificate: String
    let clientKey: String

    private let root: Certificate
    private let rootKey: P256.Signing.PrivateKey

    /// - Parameters:
    ///   - names: DNS names that clients know the server by.
    ///   - addresses: Bytes of addresses, four or sixteen each.
    init(names: [String], addresses: [[UInt8]], now: Date) throws {
        rootKey = P256.Signing.PrivateKey()
        let name = try DistinguishedName { CommonName("apus test authority") }
        let publicKey = Certificate.PublicKey(rootKey.publicKey)
        // Clocks of tests may be off by an hour.
        let (begin, end) = (now - 7200, now + 30 * 86_400)
        root = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey, notValidBefore: begin,
            notValidAfter: end, issuer: name, subject: name, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectKeyIdentifier(hash: publicKey)
            }, issuerPrivateKey: Certificate.PrivateKey(rootKey))
        authority = try root.serializeAsPEM().pemString + "\n"
        let alternatives = SubjectAlternativeNames(
            names.map { .dnsName($0) } + addresses.map { .ipAddress(ASN1OctetString(contentBytes: $0[...])) })
        (serverCertificate, serverKey) = try Self.issue(
            try DistinguishedName { CommonName("kubernetes") }, .serverAuth, alternatives, root, rootKey)
        (clientCertificate, clientKey) = try Self.issue(
            try DistinguishedName {
                OrganizationName("system:masters")
                CommonName(APIUser.admin.name)
            }, .clientAuth, SubjectAlternativeNames([.dnsName(APIUser.admin.name)]), root, rootKey)
    }

    private static func issue(
        _ subject: DistinguishedName, _ usage: ExtendedKeyUsage.Usage, _ names: SubjectAlternativeNames,
        _ root: Certificate, _ rootKey: P256.Signing.PrivateKey
    ) throws -> (certificate: String, key: String) {
        let key = P256.Signing.PrivateKey()
        let identifier = try root.extensions.subjectKeyIdentifier?.keyIdentifier
        let leaf = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(),
            publicKey: Certificate.PublicKey(key.publicKey), notValidBefore: root.notValidBefore,
            notValidAfter: root.notValidAfter, issuer: root.subject, subject: subject,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true, keyEncipherment: true))
                try ExtendedKeyUsage([usage])
                AuthorityKeyIdentifier(keyIdentifier: identifier)
                names
            }, issuerPrivateKey: Certificate.PrivateKey(rootKey))
        return (try leaf.serializeAsPEM().pemString + "\n", key.pemRepresentation + "\n")
    }

    /// Clients may bring a certificate of the same authority.
    func tlsContext() throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: try NIOSSLCertificate.fromPEMBytes(Array(serverCertificate.utf8)).map {
                .certificate($0)
            }, privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(serverKey.utf8), format: .pem)))
        configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(authority.utf8)))
        configuration.certificateVerification = .optionalVerification
        configuration.applicationProtocols = ["http/1.1"]
        return try NIOSSLContext(configuration: configuration)
    }

    /// Whom a certificate, which was verified, is of: its common name, and its organizations as groups.
    static func user(of certificate: NIOSSLCertificate) -> APIUser? {
        guard let bytes = try? certificate.toDERBytes(), let certificate = try? Certificate(derEncoded: bytes) else {
            return nil
        }
        var (name, groups) = ("", ["system:authenticated"])
        for part in certificate.subject {
            for attribute in part {
                if attribute.type == .RDNAttributeType.commonName { name = attribute.value.description }
                if attribute.type == .RDNAttributeType.organizationName { groups.append(attribute.value.description) }
            }
        }
        return name.isEmpty ? nil : APIUser(name: name, groups: groups)
    }
}
