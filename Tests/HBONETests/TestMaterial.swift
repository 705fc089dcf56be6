import Crypto
import Foundation
import SwiftASN1
import TLSEngine
import X509

/// Certificates for two workloads of one mesh, made once.
enum TestMaterial {
    static let clientName = "spiffe://cluster.local/ns/default/sa/client"
    static let serverName = "spiffe://cluster.local/ns/default/sa/server"

    static let client = Result { try TLSContext.client(material(clientName)) }
    static let server = Result { try TLSContext.server(material(serverName)) }
    /// A client whose CA the server does not know.
    static let stranger = Result { try TLSContext.client(material(clientName, Authority())) }

    private struct Authority {
        let key = P256.Signing.PrivateKey()
        let name: DistinguishedName
        let root: [UInt8]

        init() throws {
            name = try DistinguishedName { CommonName("test root") }
            root = try TestMaterial.der(
                Certificate(
                    version: .v3, serialNumber: Certificate.SerialNumber(),
                    publicKey: Certificate.PublicKey(key.publicKey), notValidBefore: Date() - 3600,
                    notValidAfter: Date() + 86400, issuer: name, subject: name, signatureAlgorithm: .ecdsaWithSHA256,
                    extensions: try Certificate.Extensions {
                        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                        Critical(KeyUsage(keyCertSign: true))
                    }, issuerPrivateKey: Certificate.PrivateKey(key)))
        }
    }

    private static let authority = Result { try Authority() }

    private static func material(_ identity: String, _ other: Authority? = nil) throws -> TLSMaterial {
        let authority = try other ?? authority.get()
        let key = P256.Signing.PrivateKey()
        let leaf = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: Certificate.PublicKey(key.publicKey),
            notValidBefore: Date() - 60, notValidAfter: Date() + 3600, issuer: authority.name,
            subject: DistinguishedName(), signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(KeyUsage(digitalSignature: true))
                try ExtendedKeyUsage([.serverAuth, .clientAuth])
                Critical(SubjectAlternativeNames([.uniformResourceIdentifier(identity)]))
            }, issuerPrivateKey: Certificate.PrivateKey(authority.key))
        return TLSMaterial(
            certificateChain: [try der(leaf)], privateKey: Array(key.derRepresentation), roots: [authority.root])
    }

    private static func der(_ certificate: Certificate) throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return serializer.serializedBytes
    }
}
