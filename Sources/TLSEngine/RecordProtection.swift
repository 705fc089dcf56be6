import CNIOBoringSSL

/// One direction of an established TLS 1.3 connection: turns plaintext into records, or records into plaintext, from
/// one buffer of the caller straight into another (RFC 8446 section 5.2).
///
/// The library's own read and write calls copy every record through a buffer that they allocate for it. Doing the
/// record layer here, with the library's AEAD, costs no copy and no allocation, and lets go of the library's
/// connection object as soon as the handshake is over.
struct RecordProtection: ~Copyable {
    /// Bytes of content in a full record.
    static let maximumContent = 16384
    /// Header, content type and authentication tag.
    static let overhead = 5 + 1 + 16
    /// The longest record body that a peer may send.
    static let maximumBody = maximumContent + 256

    enum ContentType {
        static let alert: UInt8 = 21
        static let handshake: UInt8 = 22
        static let applicationData: UInt8 = 23
    }

    private let suite: CipherSuite
    private var secret: TrafficSecret
    private var key: UnsafeMutablePointer<EVP_AEAD_CTX>
    // The initialisation vector as numbers, so that a nonce is one exclusive or (section 5.3).
    private var vectorHead: UInt32
    private var vectorTail: UInt64
    /// Records protected with the current key.
    private(set) var sequence: UInt64 = 0

    /// Nil only when memory is exhausted.
    init?(_ suite: CipherSuite, _ secret: consuming TrafficSecret) {
        guard let keys = Self.deriveKeys(suite, secret) else { return nil }
        self.suite = suite
        self.secret = secret
        key = keys.key
        vectorHead = keys.head
        vectorTail = keys.tail
    }

    deinit { EVP_AEAD_CTX_free(key) }

    private static func deriveKeys(
        _ suite: CipherSuite, _ secret: borrowing TrafficSecret
    ) -> (key: UnsafeMutablePointer<EVP_AEAD_CTX>, head: UInt32, tail: UInt64)? {
        var material = InlineArray<44, UInt8>(repeating: 0)
        return withUnsafeMutableBytes(of: &material) { buffer in
            defer { OPENSSL_cleanse(buffer.baseAddress, buffer.count) }
            let keyBytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<suite.keyLength])
            let vector = UnsafeMutableRawBufferPointer(rebasing: buffer[32..<44])
            guard secret.expand("key", suite, into: keyBytes), secret.expand("iv", suite, into: vector),
                let key = EVP_AEAD_CTX_new(
                    suite.aead, keyBytes.baseAddress?.assumingMemoryBound(to: UInt8.self), suite.keyLength, 16)
            else { return nil }
            return (
                key, vector.loadUnaligned(as: UInt32.self),
                UInt64(bigEndian: vector.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
            )
        }
    }

    /// Goes on with the next generation of keys.
    mutating func update() -> Bool {
        guard let next = secret.next(suite), let keys = Self.deriveKeys(suite, next) else { return false }
        EVP_AEAD_CTX_free(key)
        secret = next
        key = keys.key
        vectorHead = keys.head
        vectorTail = keys.tail
        sequence = 0
        return true
    }

    private mutating func nextNonce() -> (UInt32, UInt32, UInt32) {
        let tail = vectorTail ^ sequence
        sequence += 1
        return (vectorHead, UInt32(tail >> 32).bigEndian, UInt32(truncatingIfNeeded: tail).bigEndian)
    }

    /// Writes one record with `content` (at most ``maximumContent``) to `target`, which has room for
    /// ``overhead`` bytes more than the content.
    mutating func seal(
        _ type: UInt8, _ content: UnsafeRawBufferPointer, to target: UnsafeMutableRawPointer
    ) -> Bool {
        let body = content.count + 17
        let bytes = target.assumingMemoryBound(to: UInt8.self)
        bytes[0] = ContentType.applicationData
        bytes[1] = 3
        bytes[2] = 3
        bytes[3] = UInt8(body >> 8)
        bytes[4] = UInt8(body & 0xff)
        var nonce = nextNonce()
        var type = type
        var tagLength = 0
        return withUnsafeBytes(of: &nonce) { nonce in
            EVP_AEAD_CTX_seal_scatter(
                key, bytes + 5, bytes + 5 + content.count, &tagLength, 17,
                nonce.baseAddress?.assumingMemoryBound(to: UInt8.self), 12,
                content.baseAddress?.assumingMemoryBound(to: UInt8.self), content.count, &type, 1, bytes, 5) == 1
        }
    }

    /// Opens one whole record (header and body) into `target`, which has room for the body less 16 bytes.
    /// - Returns: The length of the content, and its type, with the padding gone; nil when the record is forged or all
    ///   padding (type 0 stands for the latter).
    mutating func open(
        _ record: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) -> (length: Int, type: UInt8)? {
        guard let bytes = record.baseAddress?.assumingMemoryBound(to: UInt8.self),
            let output = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        else { return nil }
        var nonce = nextNonce()
        var length = 0
        let opened = withUnsafeBytes(of: &nonce) { nonce in
            EVP_AEAD_CTX_open(
                key, output, &length, target.count, nonce.baseAddress?.assumingMemoryBound(to: UInt8.self), 12,
                bytes + 5, record.count - 5, bytes, 5) == 1
        }
        guard opened else {
            ERR_clear_error()
            return nil
        }
        while length > 0, output[length - 1] == 0 { length -= 1 }
        guard length > 0 else { return (0, 0) }
        return (length - 1, output[length - 1])
    }
}
