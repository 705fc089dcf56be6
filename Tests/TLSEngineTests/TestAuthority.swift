import Crypto
import Foundation
import SwiftASN1
import TLSEngine
import X509

/// A certificate authority for tests, and the odd certificates they need.
struct TestAuthority {
    let key = P256.Signing.PrivateKey()
    let name: DistinguishedName
    let rootDER: [UInt8]

    init(_ commonName: String = "test root") throws {
        name = try DistinguishedName { CommonName(commonName) }
        let now = Date()
        let publicKey = Certificate.PublicKey(key.publicKey)
        let certificate = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey,
            notValidBefore: now - 3600, notValidAfter: now + 365 * 86400, issuer: name, subject: name,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectKeyIdentifier(hash: publicKey)
            }, issuerPrivateKey: Certificate.PrivateKey(key))
        rootDER = try Self.der(certificate)
    }

    /// What a leaf is made of; the defaults are a good workload certificate.
    struct Leaf {
        var uris = ["spiffe://cluster.local/ns/default/sa/app"]
        var notBefore = Date() - 60
        var notAfter = Date() + 3600
        var usages: [ExtendedKeyUsage.Usage] = [.serverAuth, .clientAuth]
    }

    /// Material with a fresh key and a leaf signed by this authority.
    func material(_ leaf: Leaf = Leaf(), roots: [[UInt8]]? = nil) throws -> TLSMaterial {
        let leafKey = P256.Signing.PrivateKey()
        return TLSMaterial(
            certificateChain: [try sign(leafKey.publicKey, leaf)], privateKey: Array(leafKey.derRepresentation),
            roots: roots ?? [rootDER])
    }

    /// The usual: one identity.
    func material(_ identity: String) throws -> TLSMaterial { try material(Leaf(uris: [identity])) }

    func sign(_ publicKey: P256.Signing.PublicKey, _ leaf: Leaf) throws -> [UInt8] {
        let names = leaf.uris.map { GeneralName.uniformResourceIdentifier($0) }
        let certificate = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: Certificate.PublicKey(publicKey),
            notValidBefore: leaf.notBefore, notValidAfter: leaf.notAfter, issuer: name, subject: DistinguishedName(),
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true))
                if !leaf.usages.isEmpty { try ExtendedKeyUsage(leaf.usages) }
                if !names.isEmpty { Critical(SubjectAlternativeNames(names)) }
            }, issuerPrivateKey: Certificate.PrivateKey(key))
        return try Self.der(certificate)
    }

    /// A certificate that lets the other authority sign under this one's root.
    func signAuthority(_ other: TestAuthority) throws -> [UInt8] {
        let publicKey = Certificate.PublicKey(other.key.publicKey)
        let certificate = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey,
            notValidBefore: Date() - 3600, notValidAfter: Date() + 86400, issuer: name, subject: other.name,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectKeyIdentifier(hash: publicKey)
            }, issuerPrivateKey: Certificate.PrivateKey(key))
        return try Self.der(certificate)
    }

    private static func der(_ certificate: Certificate) throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return serializer.serializedBytes
    }
}
