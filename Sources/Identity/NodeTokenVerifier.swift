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
        guard let authorization, !authorization.isEmpty else {
            throw IdentityError(.tokenMissing, "the request has no authorization header")
        }
        let scheme = "bearer "
        guard authorization.utf8.count > scheme.utf8.count, authorization.prefix(scheme.count).lowercased() == scheme
        else { throw IdentityError(.tokenMalformed, "the authorization header holds no bearer token") }
        return try await verify(String(authorization.dropFirst(scheme.count)), now: now)
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
        try checkForm(token)
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

    /// Three parts of base64url and a header that names ES256 and nothing that would have to be understood.
    ///
    /// The library picks the key and with it the algorithm, and does not look at the header's; that is safe, but a
    /// token that says `none` is an attempt and is told so.
    private func checkForm(_ token: String) throws(IdentityError) {
        struct Header: Decodable {
            var alg: String?
            var crit: [String]?
        }
        let parts = token.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 3 else {
            throw IdentityError(.tokenMalformed, "the token does not have three parts")
        }
        for part in parts {
            for byte in part {
                switch byte {
                case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    continue
                default: throw IdentityError(.tokenMalformed, "the token is not base64url")
                }
            }
        }
        var text = String(Substring(parts[0])).replacing("-", with: "+").replacing("_", with: "/")
        text += String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        let header: Header
        do {
            guard let data = Data(base64Encoded: text) else {
                throw IdentityError(.tokenMalformed, "the token's header is not base64url")
            }
            header = try JSONDecoder().decode(Header.self, from: data)
        } catch {
            throw IdentityError(.tokenMalformed, "the token's header is not a JSON object")
        }
        guard header.alg == "ES256", header.crit == nil else {
            throw IdentityError(.tokenAlgorithm, "the token is not signed with ES256")
        }
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
