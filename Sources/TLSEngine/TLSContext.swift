import CNIOBoringSSL
import Glibc
import Mesh

/// Everything that the TLS sessions of one identity and role share: certificate, key, roots and the rules.
///
/// TLS 1.3 only, X25519MLKEM768 before X25519, ALPN `h2`, certificates demanded of both sides, no SNI, no resumption
/// and no early data. Immutable, so any number of threads may start sessions from it.
public final class TLSContext: Sendable {
    /// Which side of the connection a context plays.
    public enum Role: Sendable {
        case server, client
    }

    public let role: Role
    /// The trust domains that count as one: their clients are accepted, and an expected server may show any of them;
    /// our own first.
    public let trustDomains: [String]
    /// The identities in our own leaf.
    public let identities: [SPIFFEIdentity]

    // The library locks what it changes in them (reference counts and the store's lookup cache).
    nonisolated(unsafe) let handle: OpaquePointer
    nonisolated(unsafe) let store: OpaquePointer
    nonisolated(unsafe) private let storesByTrustDomain: [String: OpaquePointer]
    let revocation: RevocationStore?
    /// Seconds since 1970 that certificates are checked against.
    let clock: @Sendable () -> Int64

    /// A context for accepting connections: a client needs a chain to one of the roots, made for client
    /// authentication, with a SPIFFE identity in our trust domain.
    /// - Parameter clock: Seconds since 1970; replaced by tests.
    public static func server(
        _ material: TLSMaterial, clock: @escaping @Sendable () -> Int64 = { Int64(time(nil)) }
    ) throws(TLSError) -> TLSContext {
        try TLSContext(.server, material, groups: groups(material), clock: clock)
    }

    /// A context for opening connections: the server needs a chain to one of the roots, made for server
    /// authentication, with one of the identities that its session expects.
    /// - Parameter clock: Seconds since 1970; replaced by tests.
    public static func client(
        _ material: TLSMaterial, clock: @escaping @Sendable () -> Int64 = { Int64(time(nil)) }
    ) throws(TLSError) -> TLSContext {
        try TLSContext(.client, material, groups: groups(material), clock: clock)
    }

    /// The key exchanges we offer, the preferred one first.
    static let groups = [UInt16(SSL_GROUP_X25519_MLKEM768), UInt16(SSL_GROUP_X25519)]

    private static func groups(_ material: TLSMaterial) -> [UInt16] {
        material.requiresPostQuantum ? [UInt16(SSL_GROUP_X25519_MLKEM768)] : groups
    }

    /// The cipher suites by preference: those of the Rust ztunnel. AES-128-GCM first, as between two Envoys, so that a
    /// tunnel has the same one whoever the peer is.
    private static let ciphers = [CipherSuite.aes128GCM.rawValue, CipherSuite.aes256GCM.rawValue]

    private static let signatures: [UInt16] = [
        UInt16(SSL_SIGN_ECDSA_SECP256R1_SHA256), UInt16(SSL_SIGN_ED25519), UInt16(SSL_SIGN_RSA_PSS_RSAE_SHA256),
        UInt16(SSL_SIGN_ECDSA_SECP384R1_SHA384), UInt16(SSL_SIGN_RSA_PSS_RSAE_SHA384),
        UInt16(SSL_SIGN_RSA_PSS_RSAE_SHA512), UInt16(SSL_SIGN_RSA_PKCS1_SHA256), UInt16(SSL_SIGN_RSA_PKCS1_SHA384),
        UInt16(SSL_SIGN_RSA_PKCS1_SHA512),
    ]

    init(
        _ role: Role, _ material: TLSMaterial, groups: [UInt16], clock: @escaping @Sendable () -> Int64
    ) throws(TLSError) {
        guard let handle = SSL_CTX_new(TLS_with_buffers_method()), let store = X509_STORE_new() else {
            throw TLSError(.internalFailure, "no memory for a TLS context")
        }
        var stores: [String: OpaquePointer] = [:]
        for domain in material.rootsByTrustDomain.keys { stores[domain] = X509_STORE_new() }
        self.handle = handle
        self.store = store
        storesByTrustDomain = stores
        revocation = material.revocation
        self.role = role
        self.clock = clock
        guard let leaf = material.certificateChain.first else {
            identities = []
            trustDomains = []
            throw TLSError(.invalidMaterial, "the certificate chain is empty")
        }
        let parsed = Certificate(der: leaf)
        identities = parsed?.identities ?? []
        trustDomains =
            (material.trustDomain ?? identities.first?.trustDomain).map { [$0] + material.trustDomainAliases } ?? []
        guard parsed != nil else { throw TLSError(.invalidMaterial, "our certificate is not an X.509 certificate") }
        guard role == .client || !trustDomains.isEmpty else {
            throw TLSError(
                .invalidMaterial, "our certificate has no SPIFFE identity, so there is no trust domain to accept",
                hint: "the certificate needs a URI name spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
        }
        try Self.add(roots: material.roots, to: store)
        for (domain, roots) in material.rootsByTrustDomain {
            guard let store = stores[domain] else { throw TLSError(.internalFailure, "no memory for a TLS context") }
            try Self.add(roots: roots, to: store)
        }
        try Self.install(material, in: handle)
        try configure(groups: groups)
    }

    deinit {
        SSL_CTX_free(handle)
        X509_STORE_free(store)
        for store in storesByTrustDomain.values { X509_STORE_free(store) }
    }

    /// What vouches for identities of a trust domain.
    func store(for trustDomain: String) -> OpaquePointer { storesByTrustDomain[trustDomain] ?? store }

    /// Whether what a server shows is what is expected of it: the same service account of a trust domain that counts as
    /// the same.
    func match(_ expected: SPIFFEIdentity, _ shown: SPIFFEIdentity) -> Bool {
        expected.namespace == shown.namespace && expected.serviceAccount == shown.serviceAccount
            && (expected.trustDomain == shown.trustDomain
                || (trustDomains.contains(expected.trustDomain) && trustDomains.contains(shown.trustDomain)))
    }

    private func configure(groups: [UInt16]) throws(TLSError) {
        let alpn: [UInt8] = [2, 0x68, 0x32]
        let flags = [UInt32](repeating: 0, count: Self.ciphers.count)
        guard SSL_CTX_set_min_proto_version(handle, UInt16(TLS1_3_VERSION)) == 1,
            SSL_CTX_set_max_proto_version(handle, UInt16(TLS1_3_VERSION)) == 1,
            SSL_CTX_set1_group_ids(handle, groups, groups.count) == 1,
            SSL_CTX_set1_tls13_ciphers(handle, Self.ciphers, flags, Self.ciphers.count) == 1,
            SSL_CTX_set_verify_algorithm_prefs(handle, Self.signatures, Self.signatures.count) == 1,
            SSL_CTX_set_alpn_protos(handle, alpn, alpn.count) == 0
        else {
            throw TLSError(.internalFailure, "the TLS library refused our settings", cause: LibraryError.takeText())
        }
        SSL_CTX_set_options(handle, UInt32(SSL_OP_NO_TICKET))
        SSL_CTX_set_session_cache_mode(handle, CInt(SSL_SESS_CACHE_OFF))
        SSL_CTX_set_early_data_enabled(handle, 0)
        SSL_CTX_set_alpn_select_cb(
            handle,
            { _, selected, selectedCount, offered, offeredCount, _ in
                var rest = UnsafeBufferPointer(start: offered, count: Int(offeredCount))[...]
                while let length = rest.first {
                    let name = rest.dropFirst().prefix(Int(length))
                    if name.elementsEqual("h2".utf8) {
                        // It points into what the client offered, which outlives the callback.
                        selected?.pointee = name.base.baseAddress.map { $0 + name.startIndex }
                        selectedCount?.pointee = length
                        return CInt(SSL_TLSEXT_ERR_OK)
                    }
                    rest = rest.dropFirst(Int(length) + 1)
                }
                return CInt(SSL_TLSEXT_ERR_ALERT_FATAL)
            }, nil)
        SSL_CTX_set_custom_verify(
            handle, CInt(SSL_VERIFY_PEER) | CInt(SSL_VERIFY_FAIL_IF_NO_PEER_CERT),
            { ssl, alert in Handshake.verifyPeer(ssl, alert) })
        // The library's public C interface gives the traffic secrets through this callback alone. They go to the
        // session's own record protection and nowhere else.
        SSL_CTX_set_keylog_callback(handle) { ssl, line in Handshake.takeSecret(ssl, line) }
    }

    private static func add(roots: [[UInt8]], to store: OpaquePointer) throws(TLSError) {
        guard !roots.isEmpty else { throw TLSError(.invalidMaterial, "there is no root certificate to trust") }
        for (index, root) in roots.enumerated() {
            guard let certificate = Certificate(der: root) else {
                throw TLSError(
                    .invalidMaterial, "root certificate \(index + 1) of \(roots.count) is not an X.509 certificate",
                    cause: LibraryError.takeText())
            }
            guard X509_STORE_add_cert(store, certificate.handle) == 1 else {
                throw TLSError(.internalFailure, "a root certificate was refused", cause: LibraryError.takeText())
            }
        }
        // A trusted intermediate ends a chain as well as a self-signed root.
        X509_VERIFY_PARAM_set_flags(X509_STORE_get0_param(store), UInt(X509_V_FLAG_PARTIAL_CHAIN))
    }

    private static func install(_ material: TLSMaterial, in handle: OpaquePointer) throws(TLSError) {
        guard let key = PrivateKey(material.privateKey) else {
            throw TLSError(
                .invalidMaterial, "our private key cannot be read", cause: LibraryError.takeText(),
                hint: "PKCS #8 or SEC 1 as DER, or unencrypted PEM")
        }
        let buffers: [OpaquePointer?] = material.certificateChain.map { CRYPTO_BUFFER_new($0, $0.count, nil) }
        defer { for buffer in buffers { CRYPTO_BUFFER_free(buffer) } }
        guard SSL_CTX_set_chain_and_key(handle, buffers, buffers.count, key.handle, nil) == 1 else {
            throw TLSError(
                .invalidMaterial, "our certificate and private key do not belong together",
                cause: LibraryError.takeText())
        }
    }
}
