import Crypto

/// A P-256 key that lives in a file of its owner alone.
enum SigningKeyFile {
    /// The key in the file; `nil` when there is no such file.
    static func load(_ path: String) throws(IdentityError) -> P256.Signing.PrivateKey? {
        guard let pem = try SecretFile.read(path, .secret) else { return nil }
        do {
            return try P256.Signing.PrivateKey(pemRepresentation: pem)
        } catch {
            // The library's error may quote what it read, so it stays out of ours.
            throw IdentityError(.fileMalformed, "\(path) is not an unencrypted P-256 private key in PEM")
        }
    }

    /// The key in the file, made now if there is none.
    static func loadOrCreate(_ path: String) throws(IdentityError) -> P256.Signing.PrivateKey {
        if let key = try load(path) { return key }
        let key = P256.Signing.PrivateKey()
        if try SecretFile.create(path, key.pemRepresentation + "\n", .secret) { return key }
        // Another process was faster; its key is the key.
        guard let key = try load(path) else {
            throw IdentityError(.fileUnreadable, "\(path) came and went while it was made")
        }
        return key
    }
}
