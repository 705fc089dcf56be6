public import FoundationEssentials
import JWTKit

/// Checks node tokens. Errors are typed by what is wrong and never quote the token.
public struct NodeTokenVerifier: Sendable {
    private let keys: JWTKeyCollection

    init(keys: JWTKeyCollection) { self.keys = keys }

    /// The claims of the token in an `authorization` header, `Bearer <token>` (RFC 6750, section 2.1).
    ///
    /// - Throws: ``IdentityError`` as ``verify(_:now:)``.
    public func verify(authorization: String?, now: Date) async throws(IdentityError) -> NodeTokenClaims {
        try await verify(BearerToken.token(of: authorization), now: now)
    }

    /// The claims of a token that is genuine and in force at `now`.
    ///
    /// - Throws: ``IdentityError``: `tokenMissing`, `tokenMalformed`, `tokenAlgorithm`, `tokenSignature`,
    ///   `tokenIssuer`, `tokenAudience`, `tokenSubject`, `tokenExpired`, `tokenNotYetValid`.
    public func verify(_ token: String?, now: Date) async throws(IdentityError) -> NodeTokenClaims {
        guard let token, !token.isEmpty else { throw IdentityError(.tokenMissing, "there is no token") }
        guard token.utf8.count <= NodeToken.maximumSize else {
            throw IdentityError(.tokenMalformed, "the token is larger than \(NodeToken.maximumSize) bytes")
        }
        _ = try CompactToken.header(of: token, algorithms: ["ES256"])
        let payload: NodeTokenPayload
        do {
            payload = try await keys.verify(token, as: NodeTokenPayload.self)
        } catch let error as JWTError where error.errorType == .malformedToken {
            throw IdentityError(.tokenMalformed, "the token's claims are not a node token's")
        } catch {
            throw IdentityError(.tokenSignature, "the token's signature is not by this mesh's key")
        }
        return try check(payload, now: now)
    }

    private func check(_ payload: NodeTokenPayload, now: Date) throws(IdentityError) -> NodeTokenClaims {
        guard payload.iss == NodeToken.issuer else {
            throw IdentityError(.tokenIssuer, "the token was issued by somebody else")
        }
        guard payload.aud.contains(NodeToken.audience) else {
            throw IdentityError(.tokenAudience, "the token is not for \(NodeToken.audience)")
        }
        let bound = payload.kubernetes
        guard payload.sub == NodeToken.subject, bound.namespace == NodeToken.namespace,
            bound.serviceaccount.name == NodeToken.serviceAccount
        else { throw IdentityError(.tokenSubject, "the token is not a ztunnel's") }
        guard (1...253).contains(bound.node.name.utf8.count) else {
            throw IdentityError(.tokenMalformed, "the token names no node")
        }
        let expiresAt = Date(timeIntervalSince1970: TimeInterval(payload.exp))
        guard now < expiresAt + NodeToken.leeway.timeInterval else {
            throw IdentityError(.tokenExpired, "the token of node \(bound.node.name) expired at \(expiresAt)")
        }
        let notBefore = Date(timeIntervalSince1970: TimeInterval(max(payload.nbf, payload.iat)))
        guard notBefore - NodeToken.leeway.timeInterval <= now else {
            throw IdentityError(
                .tokenNotYetValid, "the token of node \(bound.node.name) is valid only from \(notBefore)",
                hint: "compare the clocks of issuer and verifier")
        }
        return NodeTokenClaims(
            node: bound.node.name, namespace: bound.namespace, serviceAccount: bound.serviceaccount.name,
            issuedAt: Date(timeIntervalSince1970: TimeInterval(payload.iat)), expiresAt: expiresAt)
    }
}
