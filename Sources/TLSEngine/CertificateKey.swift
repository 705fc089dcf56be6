import CNIOBoringSSL

/// Which certificate it is: who issued it and under what number, in 16 bytes.
///
/// A digest of the issuer's name in canonical form and the serial number (RFC 5280 section 4.1.2.2), so that lists and
/// the chains of open connections meet in a hash table however long the names are.
public struct CertificateKey: Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64

    init?(issuer: UInt32, serial: UnsafePointer<ASN1_INTEGER>?) {
        guard let serial, let bytes = ASN1_STRING_get0_data(serial) else { return nil }
        let isNegative = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER
        var text: [UInt8] = (0..<4).map { UInt8(truncatingIfNeeded: issuer >> ($0 * 8)) } + [isNegative ? 1 : 0]
        text += UnsafeBufferPointer(start: bytes, count: Int(ASN1_STRING_length(serial)))
        var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
        SHA256(text, text.count, &digest)
        (high, low) = digest.withUnsafeBytes {
            ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
    }

    init?(_ certificate: Certificate) {
        self.init(
            issuer: certificate.issuerHash, serial: X509_get0_serialNumber(certificate.handle))
    }
}

/// An authority as far as revocation goes: its name and its key.
struct AuthorityKey: Hashable, Sendable {
    /// SHA-256 of the subject public key.
    let digest: [UInt8]

    init?(_ certificate: Certificate) {
        var digest = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: CUnsignedInt = 0
        guard X509_pubkey_digest(certificate.handle, EVP_sha256(), &digest, &length) == 1 else { return nil }
        self.digest = Array(digest[..<Int(length)])
    }
}

extension Certificate {
    /// Of the issuer's and the subject's name in canonical form.
    var issuerHash: UInt32 { X509_NAME_hash(X509_get_issuer_name(handle)) }
    var subjectHash: UInt32 { X509_NAME_hash(X509_get_subject_name(handle)) }
    var subject: String { Self.text(X509_get_subject_name(handle)) }
    var serial: String {
        guard let text = i2s_ASN1_INTEGER(nil, X509_get0_serialNumber(handle)) else { return "?" }
        defer { OPENSSL_free(text) }
        return String(cString: text)
    }
}
