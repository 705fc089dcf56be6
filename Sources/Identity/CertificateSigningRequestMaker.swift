public import Crypto
public import Mesh
import SwiftASN1
import X509

/// A fresh key and the request to certify it for an identity.
public struct PreparedSigningRequest: Sendable {
    public let identity: SPIFFEIdentity
    /// PEM, `CERTIFICATE REQUEST`.
    public let csrPEM: String
    public let key: P256.Signing.PrivateKey
}

/// Makes signing requests (RFC 2986) the way Istio's authority expects them: an empty subject and the SPIFFE id as the
/// only name, in a critical subject alternative name, because an empty subject requires that (RFC 5280, 4.2.1.6).
public enum CertificateSigningRequestMaker {
    /// Makes a P-256 key of its own for every request, signed with ECDSA and SHA-256.
    public static func make(for identity: SPIFFEIdentity) throws(IdentityError) -> PreparedSigningRequest {
        let key = P256.Signing.PrivateKey()
        do {
            let request = ExtensionRequest(
                extensions: try Certificate.Extensions {
                    Critical(SubjectAlternativeNames([.uniformResourceIdentifier(identity.description)]))
                })
            let csr = try CertificateSigningRequest(
                version: .v1,
                subject: DistinguishedName(),
                privateKey: Certificate.PrivateKey(key),
                attributes: CertificateSigningRequest.Attributes([.init(request)]),
                signatureAlgorithm: .ecdsaWithSHA256)
            let pem = try csr.serializeAsPEM().pemString + "\n"
            return PreparedSigningRequest(identity: identity, csrPEM: pem, key: key)
        } catch {
            throw .wrapping(error, .cryptography, "cannot make a signing request for \(identity)")
        }
    }
}
