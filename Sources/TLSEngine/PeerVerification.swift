import CNIOBoringSSL
import Mesh

/// What a verified peer is.
struct VerifiedPeer {
    /// All identities of the certificate, in its order.
    var identities: [SPIFFEIdentity] = []
    /// The one that the rule of our role found.
    var identity: SPIFFEIdentity?
    var chain = CheckedChain()
}

/// Decides whether a peer's certificate chain is good for a session.
enum PeerVerification {
    /// Finds the identity that counts, checks the chain up to one of the roots that vouch for its trust domain, and
    /// holds the chain against the revocation lists.
    /// - Parameter chain: The peer's certificates as sent, the leaf first (a stack of CRYPTO_BUFFER).
    static func verify(
        chain: OpaquePointer?, context: TLSContext, expected: [SPIFFEIdentity]
    ) throws(TLSError) -> VerifiedPeer {
        let count = chain.map { OPENSSL_sk_num($0) } ?? 0
        guard let chain, count > 0 else {
            throw TLSError(
                .noPeerCertificate, "peer presented no certificate", alert: Alert.certificateRequired)
        }
        // A mesh chain has two or three; a longer one only costs time.
        guard count <= 10 else {
            throw TLSError(.badCertificate, "peer sent a chain of \(count) certificates", alert: Alert.badCertificate)
        }
        var certificates: [Certificate] = []
        for index in 0..<count {
            guard let buffer = OPENSSL_sk_value(chain, index),
                let parsed = X509_parse_from_buffer(OpaquePointer(buffer))
            else {
                throw TLSError(
                    .badCertificate, "peer sent a certificate that cannot be parsed", cause: LibraryError.takeText(),
                    alert: Alert.badCertificate)
            }
            certificates.append(Certificate(owning: parsed))
        }
        let identities = certificates[0].identities
        let found: SPIFFEIdentity? =
            switch context.role {
            case .server: identities.first { context.trustDomains.contains($0.trustDomain) }
            case .client: identities.first { shown in expected.contains { context.match($0, shown) } }
            }
        // A chain that does not hold is told first: what it says of itself means nothing then.
        let store = found.map { context.store(for: $0.trustDomain) } ?? context.store
        let verified = try verifyChain(certificates, store, context)
        guard let found else {
            switch context.role {
            case .server: throw trustDomainMismatch(certificates[0], context)
            case .client: throw identityMismatch(certificates[0], expected)
            }
        }
        var peer = VerifiedPeer(identity: found)
        // Names of a trust domain that other roots vouch for are not proved by this chain.
        peer.identities = identities.filter { context.store(for: $0.trustDomain) == store }
        if let revocation = context.revocation { peer.chain = try revocation.check(verified, context.role) }
        return peer
    }

    /// - Returns: The chain that was found, leaf first and trust anchor last; only needed to look for revoked ones.
    private static func verifyChain(
        _ certificates: [Certificate], _ store: OpaquePointer, _ context: TLSContext
    ) throws(TLSError) -> [Certificate] {
        guard let verification = X509_STORE_CTX_new(), let untrusted = OPENSSL_sk_new_null() else {
            throw TLSError(.internalFailure, "no memory to verify a certificate", alert: Alert.internalError)
        }
        defer {
            X509_STORE_CTX_free(verification)
            OPENSSL_sk_free(untrusted)
        }
        for certificate in certificates.dropFirst() {
            OPENSSL_sk_push(untrusted, UnsafeMutableRawPointer(certificate.handle))
        }
        let purpose = context.role == .server ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER
        guard X509_STORE_CTX_init(verification, store, certificates[0].handle, untrusted) == 1,
            X509_STORE_CTX_set_purpose(verification, CInt(purpose)) == 1
        else {
            throw TLSError(
                .internalFailure, "the certificate check could not be set up", cause: LibraryError.takeText(),
                alert: Alert.internalError)
        }
        X509_STORE_CTX_set_time_posix(verification, 0, context.clock())
        let verified = X509_verify_cert(verification)
        let code = X509_STORE_CTX_get_error(verification)
        ERR_clear_error()
        guard verified != 1 || code != X509_V_OK else {
            return context.revocation == nil ? [] : chain(of: verification)
        }
        let depth = Int(X509_STORE_CTX_get_error_depth(verification))
        throw chainError(code, depth, certificates, context.role)
    }

    private static func chain(of verification: OpaquePointer) -> [Certificate] {
        guard let found = X509_STORE_CTX_get0_chain(verification) else { return [] }
        return (0..<OPENSSL_sk_num(found)).compactMap { index in
            guard let item = OPENSSL_sk_value(found, index) else { return nil }
            let certificate = OpaquePointer(item)
            X509_up_ref(certificate)
            return Certificate(owning: certificate)
        }
    }

    private static func chainError(
        _ code: CInt, _ depth: Int, _ certificates: [Certificate], _ role: TLSContext.Role
    ) -> TLSError {
        let cause = X509_verify_cert_error_string(Int(code)).map { String(cString: $0) }
        let which = depth == 0 ? "certificate" : "CA certificate"
        switch code {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            return TLSError(
                .certificateNotValidNow, "peer \(which) has expired", hint: "compare the clocks of the two nodes",
                alert: Alert.certificateExpired)
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return TLSError(
                .certificateNotValidNow, "peer \(which) is not valid yet",
                hint: "compare the clocks of the two nodes", alert: Alert.badCertificate)
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
            X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_UNTRUSTED,
            X509_V_ERR_CERT_SIGNATURE_FAILURE:
            let issuer = certificates.last?.issuer ?? "?"
            return TLSError(
                .untrustedCertificate, "peer certificate is signed by another CA (\(issuer))", cause: cause,
                hint: "both sides need a common root certificate", alert: Alert.unknownCA)
        case X509_V_ERR_INVALID_PURPOSE:
            let side = role == .server ? "client" : "server"
            return TLSError(
                .wrongPurpose, "peer \(which) is not made for \(side) authentication", cause: cause,
                alert: Alert.unsupportedCertificate)
        default:
            return TLSError(
                .badCertificate, "peer \(which) does not hold", cause: cause, alert: Alert.badCertificate)
        }
    }

    private static func trustDomainMismatch(_ leaf: Certificate, _ context: TLSContext) -> TLSError {
        let wanted = context.trustDomains.first ?? ""
        let domains = leaf.identities.map(\.trustDomain)
        let found = domains.isEmpty ? "no SPIFFE identity" : domains.joined(separator: ", ")
        return TLSError(
            .trustDomainMismatch, "peer did not present the expected trust domain \(wanted), but \(found)",
            alert: Alert.accessDenied)
    }

    private static func identityMismatch(_ leaf: Certificate, _ expected: [SPIFFEIdentity]) -> TLSError {
        let identities = leaf.identities.map(\.description)
        let found = identities.isEmpty ? "no SPIFFE identity" : identities.joined(separator: ", ")
        guard !expected.isEmpty else {
            return TLSError(
                .identityMismatch,
                "no identity is expected of the peer, so none can be accepted; it presented \(found)",
                alert: Alert.accessDenied)
        }
        let wanted = expected.map(\.description).joined(separator: ", ")
        return TLSError(
            .identityMismatch, "peer did not present the expected identity \(wanted), but \(found)",
            alert: Alert.accessDenied)
    }
}
