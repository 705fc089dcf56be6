import Crypto
public import FoundationEssentials
import JWTKit

/// Issues node tokens with the key in a state directory.
public struct NodeTokenIssuer: Sendable {
    /// Verifies what this issuer issues.
    public let verifier: NodeTokenVerifier
    private let keys: JWTKeyCollection

    /// Opens `token.key` (mode 0600) in `directory` and makes it if there is none.
    ///
    /// - Throws: ``IdentityError``: `filePermissions`, `fileMalformed`, `fileUnreadable`.
    public init(directory: String) async throws(IdentityError) {
        try SecretFile.prepareDirectory(directory)
        try await self.init(key: SigningKeyFile.loadOrCreate(directory + "/" + NodeToken.keyFileName))
    }

    init(key: P256.Signing.PrivateKey) async throws(IdentityError) {
        do {
            let key = try ES256PrivateKey(backing: key)
            keys = await JWTKeyCollection().add(ecdsa: key)
            verifier = NodeTokenVerifier(keys: await JWTKeyCollection().add(ecdsa: key.publicKey))
        } catch {
            throw IdentityError(.cryptography, "the token key cannot be used")
        }
    }

    /// A token for the ztunnel of `node` and the time it expires at.
    ///
    /// - Throws: ``IdentityError``: `configuration` for a node without a name or with one beyond 253 bytes.
    public func issue(
        node: String, now: Date, validity: Duration = NodeToken.validity
    ) async throws(IdentityError) -> (token: String, expiresAt: Date) {
        guard (1...253).contains(node.utf8.count) else {
            throw IdentityError(.configuration, "a node's name has 1 to 253 characters")
        }
        let issued = Int64(now.timeIntervalSince1970)
        let expiry = issued + validity.components.seconds
        let payload = NodeTokenPayload(
            iss: NodeToken.issuer, aud: [NodeToken.audience], sub: NodeToken.subject, iat: issued, nbf: issued,
            exp: expiry, jti: UUID().uuidString,
            kubernetes: .init(
                namespace: NodeToken.namespace, node: .init(name: node),
                serviceaccount: .init(name: NodeToken.serviceAccount)))
        do {
            return (try await keys.sign(payload), Date(timeIntervalSince1970: TimeInterval(expiry)))
        } catch {
            throw IdentityError(.cryptography, "cannot sign a token for node \(node)")
        }
    }
}
