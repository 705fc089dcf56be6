import Crypto
import FoundationEssentials

/// Stands for a token where something about it is remembered: a SHA-256, from which the token cannot be had.
public struct TokenDigest: Hashable, Sendable {
    private let bytes: SHA256Digest

    public init(_ token: String) { bytes = SHA256.hash(data: Data(token.utf8)) }
}
