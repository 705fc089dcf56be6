import CNIOBoringSSL
import Glibc
import Mesh

/// The library's connection object and what we learn through it; it lives as long as the handshake.
final class Handshake {
    let context: TLSContext
    let ssl: OpaquePointer
    let bio: OpaquePointer
    let expected: [SPIFFEIdentity]
    private(set) var verified = VerifiedPeer()
    private(set) var failure: TLSError?
    private var clientSecret: [UInt8] = []
    private var serverSecret: [UInt8] = []

    init(_ context: TLSContext, expected: [SPIFFEIdentity]) throws(TLSError) {
        guard let ssl = SSL_new(context.handle) else {
            throw TLSError(.internalFailure, "no TLS session could be made", cause: LibraryError.takeText())
        }
        guard let bio = MemoryBIO.make() else {
            SSL_free(ssl)
            throw TLSError(.internalFailure, "no memory for a TLS session")
        }
        // One reference for each direction, both owned by the connection object from here.
        BIO_up_ref(bio)
        SSL_set0_rbio(ssl, bio)
        SSL_set0_wbio(ssl, bio)
        if context.role == .server { SSL_set_accept_state(ssl) } else { SSL_set_connect_state(ssl) }
        self.context = context
        self.ssl = ssl
        self.bio = bio
        self.expected = expected
        guard SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque()) == 1 else {
            throw TLSError(.internalFailure, "no memory for a TLS session")
        }
    }

    deinit {
        SSL_free(ssl)
        clientSecret.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
        serverSecret.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
    }

    /// Goes as far as the input allows; true when the handshake is over.
    func step(_ input: RawSpan, consumed: inout Int, output: inout OutputRawSpan) throws(TLSError) -> Bool {
        ERR_clear_error()
        var taken = 0
        let result = input.withUnsafeBytes { source in
            output.withUnsafeMutableBytes { target, filled -> CInt in
                var buffers = HandshakeBuffers(input: source, output: target, produced: filled)
                return withUnsafeMutablePointer(to: &buffers) { pointer in
                    BIO_set_data(bio, pointer)
                    defer { BIO_set_data(bio, nil) }
                    let result = SSL_do_handshake(ssl)
                    taken = pointer.pointee.consumed
                    filled = pointer.pointee.produced
                    return result
                }
            }
        }
        consumed = taken
        if result == 1 { return true }
        let code = SSL_get_error(ssl, result)
        if code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE { return false }
        throw failure ?? HandshakeFailure.describe(LibraryError.take(), context.role)
    }

    /// The keys of both directions, once the handshake is over.
    func takeKeys(
        _ suite: CipherSuite, _ reader: inout RecordProtection?, _ writer: inout RecordProtection?
    ) -> Bool {
        guard SSL_get_read_sequence(ssl) == 0, SSL_get_write_sequence(ssl) == 0,
            clientSecret.count == suite.hashLength, serverSecret.count == suite.hashLength,
            let client = TrafficSecret(clientSecret), let server = TrafficSecret(serverSecret)
        else { return false }
        if context.role == .server {
            reader = RecordProtection(suite, client)
            writer = RecordProtection(suite, server)
        } else {
            reader = RecordProtection(suite, server)
            writer = RecordProtection(suite, client)
        }
        return true
    }

    // MARK: Called by the library

    private static func of(_ ssl: OpaquePointer?) -> Handshake? {
        guard let ssl, let pointer = SSL_get_ex_data(ssl, 0) else { return nil }
        return Unmanaged<Handshake>.fromOpaque(pointer).takeUnretainedValue()
    }

    static func verifyPeer(_ ssl: OpaquePointer?, _ alert: UnsafeMutablePointer<UInt8>?) -> ssl_verify_result_t {
        guard let handshake = of(ssl) else { return ssl_verify_invalid }
        do throws(TLSError) {
            try handshake.verifyPeer()
            return ssl_verify_ok
        } catch {
            alert?.pointee = error.alert ?? Alert.certificateUnknown
            handshake.failure = error
            return ssl_verify_invalid
        }
    }

    private func verifyPeer() throws(TLSError) {
        var name: UnsafePointer<UInt8>?
        var length: CUnsignedInt = 0
        SSL_get0_alpn_selected(ssl, &name, &length)
        // A peer that leaves the extension out is not refused by the library.
        guard UnsafeBufferPointer(start: name, count: Int(length)).elementsEqual("h2".utf8) else {
            throw TLSError(
                .noApplicationProtocol, "peer did not agree to h2", hint: "the peer may not be an HBONE endpoint",
                alert: Alert.noApplicationProtocol)
        }
        verified = try PeerVerification.verify(
            chain: SSL_get0_peer_certificates(ssl), context: context, expected: expected)
    }

    /// A line `LABEL <client random> <secret>` of the key log.
    static func takeSecret(_ ssl: OpaquePointer?, _ line: UnsafePointer<CChar>?) {
        guard let line, let handshake = of(ssl) else { return }
        let bytes = UnsafeBufferPointer(
            start: UnsafeRawPointer(line).assumingMemoryBound(to: UInt8.self), count: strlen(line))
        if bytes.starts(with: "CLIENT_TRAFFIC_SECRET_0 ".utf8) {
            handshake.clientSecret = hexadecimalTail(bytes)
        } else if bytes.starts(with: "SERVER_TRAFFIC_SECRET_0 ".utf8) {
            handshake.serverSecret = hexadecimalTail(bytes)
        }
    }

    private static func hexadecimalTail(_ line: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        guard let space = line.lastIndex(of: 0x20) else { return [] }
        let digits = line[(space + 1)...]
        var result: [UInt8] = []
        // Never moved by growing, so that no copy of a secret stays behind.
        result.reserveCapacity(digits.count / 2)
        var index = digits.startIndex
        while index + 1 < digits.endIndex {
            result.append(value(digits[index]) << 4 | value(digits[index + 1]))
            index += 2
        }
        return result
    }

    private static func value(_ digit: UInt8) -> UInt8 { digit < 0x40 ? digit & 15 : (digit & 7) + 9 }
}

/// What the library's reasons mean to an operator.
enum HandshakeFailure {
    static func describe(_ error: LibraryError?, _ role: TLSContext.Role) -> TLSError {
        guard let error else { return TLSError(.internalFailure, "the TLS handshake failed") }
        let cause = error.text
        if error.library == ERR_LIB_SSL, error.reason > SSL_AD_REASON_OFFSET,
            let alert = UInt8(exactly: error.reason - SSL_AD_REASON_OFFSET)
        {
            return Alert.received(alert)
        }
        guard error.library == ERR_LIB_SSL else {
            return TLSError(.protocolViolation, "the TLS handshake failed", cause: cause)
        }
        switch error.reason {
        case SSL_R_WRONG_VERSION_NUMBER, SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST, SSL_R_UNKNOWN_PROTOCOL,
            SSL_R_UNEXPECTED_RECORD, SSL_R_INVALID_OUTER_RECORD_TYPE:
            return TLSError(.notTLS, "peer does not speak TLS", cause: cause)
        case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_WRONG_SSL_VERSION, SSL_R_NO_SUPPORTED_VERSIONS_ENABLED:
            return TLSError(.protocolVersion, "peer does not speak TLS 1.3", cause: cause)
        case SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SHARED_GROUP, SSL_R_NO_COMMON_SIGNATURE_ALGORITHMS, SSL_R_WRONG_CURVE:
            return TLSError(.noSharedParameters, "no TLS parameters in common with the peer", cause: cause)
        case SSL_R_NO_APPLICATION_PROTOCOL, SSL_R_INVALID_ALPN_PROTOCOL:
            return TLSError(
                .noApplicationProtocol, "peer did not agree to h2", cause: cause,
                hint: "the peer may not be an HBONE endpoint")
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, SSL_R_NO_CERTIFICATES_RETURNED:
            return TLSError(.noPeerCertificate, "peer presented no certificate", cause: cause)
        default:
            return TLSError(.protocolViolation, "peer broke the TLS protocol", cause: cause)
        }
    }
}
