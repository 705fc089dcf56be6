import Crypto
import SwiftASN1
import X509

/// What an authority accepts as a signing request. Of everything in it only the public key is ever used.
enum SigningRequestCheck {
    /// A request with an RSA key of 8192 bits and a name or two stays below 4 KiB.
    static let maximumSize = 16 << 10
    /// A bound on the work that verifying a request costs.
    private static let maximumKeySize = 1100

    /// The public key of a request whose holder has proved to own it.
    static func publicKey(ofRequest pem: String) throws(IdentityError) -> Certificate.PublicKey {
        guard pem.utf8.count <= maximumSize else {
            throw IdentityError(.requestTooLarge, "the signing request is larger than \(maximumSize) bytes")
        }
        var pem = pem
        pem.makeContiguousUTF8()
        let csr: CertificateSigningRequest
        do {
            let document = try PEMDocument(pemString: pem)
            guard document.discriminator == "CERTIFICATE REQUEST" || document.discriminator == "NEW CERTIFICATE REQUEST"
            else { throw IdentityError(.requestMalformed, "the PEM block is no signing request") }
            csr = try CertificateSigningRequest(derEncoded: document.derBytes)
        } catch {
            throw .wrapping(error, .requestMalformed, "the signing request is malformed")
        }
        try checkKey(csr.publicKey)
        guard csr.publicKey.isValidSignature(csr.signature, for: csr) else {
            throw IdentityError(
                .requestSignature, "the signing request is not signed by the key that it asks to certify")
        }
        try refuseAuthority(csr)
        return csr.publicKey
    }

    /// P-256, P-384 and RSA from 2048 to 8192 bits: what TLS peers of a mesh understand.
    private static func checkKey(_ key: Certificate.PublicKey) throws(IdentityError) {
        guard key.subjectPublicKeyInfoBytes.count <= maximumKeySize, P521.Signing.PublicKey(key) == nil,
            Curve25519.Signing.PublicKey(key) == nil
        else {
            throw IdentityError(
                .unsupportedKey, "the signing request has a key of an unsupported kind or size",
                hint: "use ECDSA P-256")
        }
    }

    /// The authority would ignore such wishes anyway; a request with one comes from somebody to be told no.
    private static func refuseAuthority(_ csr: CertificateSigningRequest) throws(IdentityError) {
        let refusal = IdentityError(
            .requestsAuthority, "the signing request asks for a certificate that can sign certificates")
        for attribute in csr.attributes where attribute.oid == .CSRAttributes.extensionRequest {
            let extensions: Certificate.Extensions
            let constraints: BasicConstraints?
            let usage: KeyUsage?
            do {
                extensions = try ExtensionRequest(attribute).extensions
                constraints = try extensions.basicConstraints
                usage = try extensions.keyUsage
            } catch {
                throw .wrapping(error, .requestMalformed, "the signing request has malformed extensions")
            }
            if case .isCertificateAuthority = constraints { throw refusal }
            if let usage, usage.keyCertSign || usage.cRLSign { throw refusal }
        }
    }
}
