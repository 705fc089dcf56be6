import CNIOBoringSSL

/// The suites of TLS 1.3 that we speak (RFC 8446 appendix B.4).
enum CipherSuite: UInt16 {
    case aes128GCM = 0x1301
    case aes256GCM = 0x1302

    var name: String {
        switch self {
        case .aes128GCM: "TLS_AES_128_GCM_SHA256"
        case .aes256GCM: "TLS_AES_256_GCM_SHA384"
        }
    }

    var keyLength: Int { self == .aes128GCM ? 16 : 32 }
    var hashLength: Int { self == .aes256GCM ? 48 : 32 }

    fileprivate var digest: OpaquePointer? { self == .aes256GCM ? EVP_sha384() : EVP_sha256() }

    var aead: OpaquePointer? {
        switch self {
        case .aes128GCM: EVP_aead_aes_128_gcm()
        case .aes256GCM: EVP_aead_aes_256_gcm()
        }
    }
}

/// A traffic secret, wiped when it goes.
struct TrafficSecret: ~Copyable {
    private var bytes = InlineArray<48, UInt8>(repeating: 0)
    private(set) var count: Int

    /// Copies at most 48 bytes; nil for more.
    init?(_ source: some Collection<UInt8>) {
        guard source.count <= 48 else { return nil }
        count = source.count
        for (index, byte) in source.enumerated() { bytes[index] = byte }
    }

    deinit {
        var bytes = bytes
        withUnsafeMutableBytes(of: &bytes) { OPENSSL_cleanse($0.baseAddress, $0.count) }
    }

    /// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1), into `output`.
    func expand(_ label: StaticString, _ suite: CipherSuite, into output: UnsafeMutableRawBufferPointer) -> Bool {
        var info = InlineArray<32, UInt8>(repeating: 0)
        var length = 0
        func append(_ byte: UInt8) {
            info[length] = byte
            length += 1
        }
        append(UInt8(output.count >> 8))
        append(UInt8(output.count & 0xff))
        append(UInt8(6 + label.utf8CodeUnitCount))
        for byte in "tls13 ".utf8 { append(byte) }
        for index in 0..<label.utf8CodeUnitCount { append(label.utf8Start[index]) }
        append(0)
        return withUnsafeBytes(of: bytes) { secret in
            withUnsafeBytes(of: info) { info in
                HKDF_expand(
                    output.baseAddress?.assumingMemoryBound(to: UInt8.self), output.count, suite.digest,
                    secret.baseAddress?.assumingMemoryBound(to: UInt8.self), count,
                    info.baseAddress?.assumingMemoryBound(to: UInt8.self), length) == 1
            }
        }
    }

    /// The secret after a KeyUpdate (RFC 8446 section 7.2).
    func next(_ suite: CipherSuite) -> TrafficSecret? {
        var updated = InlineArray<48, UInt8>(repeating: 0)
        return withUnsafeMutableBytes(of: &updated) { buffer in
            defer { OPENSSL_cleanse(buffer.baseAddress, buffer.count) }
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<suite.hashLength])
            guard expand("traffic upd", suite, into: target) else { return nil }
            return TrafficSecret(target)
        }
    }
}
