import CNIOBoringSSL

/// One certificate revocation list (RFC 5280 section 5), read strictly: what is not understood is refused, because a
/// list that is half understood lets somebody in who was thrown out.
final class RevocationList: Sendable {
    /// As the library prints it.
    let issuer: String
    let issuerHash: UInt32
    /// Who is revoked, whether or not the signature holds.
    let revoked: Set<CertificateKey>
    /// Seconds since 1970; `nil` where the list gives none.
    let nextUpdate: Int64?
    /// Of the key it says it is signed with, where it says so.
    private let authorityKeyID: [UInt8]?
    /// Only read after it was made. Without the entries, which are in ``revoked``: kept for the name alone.
    nonisolated(unsafe) private let name: OpaquePointer
    private let der: [UInt8]

    init(der: [UInt8]) throws(RevocationError) {
        let crl = try Self.parse(der)
        defer { X509_CRL_free(crl) }
        guard let issuerName = X509_CRL_get_issuer(crl), let name = X509_NAME_dup(issuerName) else {
            throw RevocationError("a list has no issuer")
        }
        self.name = name
        self.der = der
        issuer = Certificate.text(name)
        issuerHash = X509_NAME_hash(name)
        authorityKeyID = Self.keyID(crl)
        nextUpdate = Self.seconds(X509_CRL_get0_nextUpdate(crl))
        // All stored properties have a value first, so that the object is let go of in order if this throws.
        let entries: Set<CertificateKey>
        let problem: RevocationError?
        do throws(RevocationError) {
            try Self.checkExtensions(crl, issuer)
            entries = try Self.entries(crl, issuerHash, issuer)
            problem = nil
        } catch {
            entries = []
            problem = error
        }
        revoked = entries
        if let problem { throw problem }
    }

    deinit { X509_NAME_free(name) }

    /// Whether the list speaks of certificates of this authority, by name and, where it says so, by key identifier.
    func isMeant(for authority: Certificate) -> Bool {
        guard X509_NAME_cmp(name, X509_get_subject_name(authority.handle)) == 0 else { return false }
        guard let authorityKeyID, let own = X509_get0_subject_key_id(authority.handle) else { return true }
        return UnsafeBufferPointer(start: ASN1_STRING_get0_data(own), count: Int(ASN1_STRING_length(own)))
            .elementsEqual(authorityKeyID)
    }

    /// Whether this authority signed it. Costs a signature check and reading the list again.
    func isSigned(by authority: Certificate) -> Bool {
        defer { ERR_clear_error() }
        guard let crl = try? Self.parse(der) else { return false }  // It parsed before; if not now, it is not signed.
        defer { X509_CRL_free(crl) }
        guard let key = X509_get0_pubkey(authority.handle) else { return false }
        // An authority whose key usage leaves lists out has not signed one (RFC 5280 section 6.3.3 f).
        guard X509_get_key_usage(authority.handle) & UInt32(X509v3_KU_CRL_SIGN) != 0 else { return false }
        return X509_CRL_verify(crl, key) == 1
    }

    // MARK: Reading

    private static func parse(_ der: [UInt8]) throws(RevocationError) -> OpaquePointer {
        let parsed = der.withUnsafeBufferPointer { bytes -> OpaquePointer? in
            var position = bytes.baseAddress
            guard let crl = d2i_X509_CRL(nil, &position, bytes.count) else { return nil }
            guard position == bytes.baseAddress.map({ $0 + bytes.count }) else {
                X509_CRL_free(crl)
                return nil
            }
            return crl
        }
        guard let parsed else {
            let cause = LibraryError.takeText()
            throw RevocationError("a list of \(der.count) bytes is no X.509 CRL" + (cause.map { ": \($0)" } ?? ""))
        }
        return parsed
    }

    /// What has to be understood is, or the list is refused.
    private static func checkExtensions(_ crl: OpaquePointer, _ issuer: String) throws(RevocationError) {
        var index = X509_CRL_get_ext_by_critical(crl, 1, -1)
        while index >= 0 {
            let kind = X509_EXTENSION_get_object(X509_CRL_get_ext(crl, index)).map { OBJ_obj2nid($0) } ?? NID_undef
            switch kind {
            case NID_issuing_distribution_point: break
            case NID_delta_crl:
                throw RevocationError("the list of \(issuer) is a delta; ztunnel needs the full list")
            default:
                throw RevocationError("the list of \(issuer) has a critical extension that ztunnel does not know")
            }
            index = X509_CRL_get_ext_by_critical(crl, 1, index)
        }
        guard X509_CRL_get_ext_by_NID(crl, NID_issuing_distribution_point, -1) >= 0 else { return }
        guard let raw = X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, nil, nil) else {
            ERR_clear_error()
            throw RevocationError("the list of \(issuer) has a malformed distribution point")
        }
        let point = raw.assumingMemoryBound(to: ISSUING_DIST_POINT.self)
        defer { ISSUING_DIST_POINT_free(point) }
        guard point.pointee.indirectCRL == 0, point.pointee.onlyattr == 0, point.pointee.onlysomereasons == nil else {
            throw RevocationError("the list of \(issuer) is indirect or partial; ztunnel needs the full list")
        }
    }

    private static func entries(
        _ crl: OpaquePointer, _ issuerHash: UInt32, _ issuer: String
    ) throws(RevocationError) -> Set<CertificateKey> {
        guard let stack = X509_CRL_get_REVOKED(crl) else { return [] }
        let count = OPENSSL_sk_num(stack)
        var keys = Set<CertificateKey>(minimumCapacity: Int(count))
        for index in 0..<count {
            guard let item = OPENSSL_sk_value(stack, index) else { continue }
            let entry = OpaquePointer(item)
            guard X509_REVOKED_get_ext_by_critical(entry, 1, -1) < 0 else {
                throw RevocationError("the list of \(issuer) has an entry with a critical extension")
            }
            guard let key = CertificateKey(issuer: issuerHash, serial: X509_REVOKED_get0_serialNumber(entry)) else {
                throw RevocationError("the list of \(issuer) has an entry without a serial number")
            }
            keys.insert(key)
        }
        return keys
    }

    private static func keyID(_ crl: OpaquePointer) -> [UInt8]? {
        guard let raw = X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, nil, nil) else {
            ERR_clear_error()
            return nil
        }
        let identifier = raw.assumingMemoryBound(to: AUTHORITY_KEYID.self)
        defer { AUTHORITY_KEYID_free(identifier) }
        guard let text = identifier.pointee.keyid else { return nil }
        return Array(UnsafeBufferPointer(start: ASN1_STRING_get0_data(text), count: Int(ASN1_STRING_length(text))))
    }

    private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64? {
        var seconds: Int64 = 0
        guard let time, ASN1_TIME_to_posix(time, &seconds) == 1 else { return nil }
        return seconds
    }
}

/// Why revocation lists cannot be used: one sentence for an operator.
public struct RevocationError: Error, Sendable, Hashable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}
