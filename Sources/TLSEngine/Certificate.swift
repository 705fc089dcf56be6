import CNIOBoringSSL
import Mesh

/// A parsed X.509 certificate; it never changes.
final class Certificate: Sendable {
    // The library locks what it changes in it (reference count and parsed extensions).
    nonisolated(unsafe) let handle: OpaquePointer

    init(owning handle: OpaquePointer) { self.handle = handle }

    convenience init?(der: [UInt8]) {
        let parsed = der.withUnsafeBufferPointer { bytes -> OpaquePointer? in
            var position = bytes.baseAddress
            guard let certificate = d2i_X509(nil, &position, bytes.count) else { return nil }
            guard position == bytes.baseAddress.map({ $0 + bytes.count }) else {
                X509_free(certificate)
                return nil
            }
            return certificate
        }
        guard let parsed else { return nil }
        self.init(owning: parsed)
    }

    deinit { X509_free(handle) }

    /// The URI names (RFC 5280 section 4.2.1.6) that are printable ASCII, in the certificate's order.
    var uris: [String] {
        guard let raw = X509_get_ext_d2i(handle, NID_subject_alt_name, nil, nil) else {
            ERR_clear_error()
            return []
        }
        let names = OpaquePointer(raw)
        defer { GENERAL_NAMES_free(names) }
        var found: [String] = []
        for index in 0..<OPENSSL_sk_num(names) {
            guard let item = OPENSSL_sk_value(names, index) else { continue }
            let name = item.assumingMemoryBound(to: GENERAL_NAME.self)
            guard name.pointee.type == GEN_URI, let text = name.pointee.d.uniformResourceIdentifier,
                let bytes = ASN1_STRING_get0_data(text)
            else { continue }
            let characters = UnsafeBufferPointer(start: bytes, count: Int(ASN1_STRING_length(text)))
            // Anything else has no place in a URI, and must not get the chance to look like a name it is not.
            guard characters.allSatisfy({ (0x21...0x7e).contains($0) }) else { continue }
            found.append(String(decoding: characters, as: UTF8.self))
        }
        return found
    }

    /// The URI names that are SPIFFE identities of workloads.
    var identities: [SPIFFEIdentity] { uris.compactMap { SPIFFEIdentity($0) } }

    /// The issuer as the library prints it, for messages.
    var issuer: String { Self.text(X509_get_issuer_name(handle)) }

    static func text(_ name: OpaquePointer?) -> String {
        guard let name, let line = X509_NAME_oneline(name, nil, 0) else { return "?" }
        defer { OPENSSL_free(line) }
        return String(cString: line)
    }
}

/// A private key, parsed from DER or PEM.
final class PrivateKey {
    let handle: OpaquePointer

    init?(_ bytes: [UInt8]) {
        let parsed = bytes.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            if buffer.starts(with: "-----BEGIN".utf8) {
                guard let bio = BIO_new_mem_buf(buffer.baseAddress, buffer.count) else { return nil }
                defer { BIO_free(bio) }
                // The empty callback keeps the library from asking a terminal for a password.
                return PEM_read_bio_PrivateKey(bio, nil, { _, _, _, _ in -1 }, nil)
            }
            var position = buffer.baseAddress
            return d2i_AutoPrivateKey(nil, &position, buffer.count)
        }
        guard let parsed else { return nil }
        handle = parsed
    }

    deinit { EVP_PKEY_free(handle) }
}
