public import FoundationEssentials
import JWTKit
import Synchronization

/// What a service account's token says.
public struct ServiceAccountClaims: Sendable, Hashable {
    public let namespace: String
    public let serviceAccount: String
    /// The pod that the token is bound to; empty where it is bound to none.
    public let podName: String
    public let podUID: String
    /// The node of that pod, where the cluster says it; empty else.
    public let node: String
    public let expiresAt: Date
}

/// Checks service accounts' tokens by the cluster's public keys, without asking the cluster.
///
/// What it cannot see is that a token was revoked, as by the end of its pod: who asks has to know the pods.
public final class ServiceAccountTokenVerifier: Sendable {
    static let algorithms: Set<String> = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
    /// The file is looked at again at most this often.
    static let reloadInterval = 10.0
    /// What is in it is believed for so long before it is looked at again: a key may have been withdrawn.
    static let refreshInterval = 60.0

    private struct Keys {
        var collection: JWTKeyCollection
        var identifiers: Set<String>
        var readAt: Date
    }

    private let path: String
    private let issuer: String
    private let audiences: Set<String>
    private let keys: Mutex<Keys>

    /// - Parameters:
    ///   - path: A JSON Web Key Set (RFC 7517), as the API server has it at `/openid/v1/jwks`. Read again when a token
    ///     names a key that is not in it, and every minute.
    ///   - issuer: As the API server's `--service-account-issuer` has it.
    ///   - audiences: A token must be for one of them.
    /// - Throws: ``IdentityError``: `fileUnreadable`, `fileMalformed`.
    public init(
        jwksFile path: String, issuer: String, audiences: Set<String>, now: Date
    ) async throws(IdentityError) {
        self.path = path
        self.issuer = issuer
        self.audiences = audiences
        keys = Mutex(try await Self.read(path, now))
    }

    private static func read(_ path: String, _ now: Date) async throws(IdentityError) -> Keys {
        let text = try SecretFile.readMounted(path)
        do {
            let set = try JSONDecoder().decode(JWKS.self, from: Data(text.utf8))
            let identifiers = Set(set.keys.compactMap { $0.keyIdentifier?.string })
            guard !set.keys.isEmpty, identifiers.count == set.keys.count else {
                throw IdentityError(
                    .fileMalformed, "\(path) holds no keys, or one without a kid of its own",
                    hint: "kubectl get --raw /openid/v1/jwks writes one")
            }
            return Keys(
                collection: try await JWTKeyCollection().add(jwks: set), identifiers: identifiers,
                readAt: now)
        } catch {
            throw .wrapping(error, .fileMalformed, "\(path) is no JSON Web Key Set")
        }
    }

    /// The claims of a token that is genuine, for one of the audiences and in force at `now`.
    ///
    /// - Throws: ``IdentityError``: `tokenMalformed`, `tokenAlgorithm`, `tokenSignature`, `tokenIssuer`,
    ///   `tokenAudience`, `tokenSubject`, `tokenExpired`, `tokenNotYetValid`.
    public func verify(_ token: String, now: Date) async throws(IdentityError) -> ServiceAccountClaims {
        let header = try CompactToken.header(of: token, algorithms: Self.algorithms)
        guard let kid = header.kid else {
            throw IdentityError(.tokenMalformed, "the token does not name its key")
        }
        let payload: ServiceAccountPayload
        do {
            payload = try await collection(for: kid, now).verify(token, as: ServiceAccountPayload.self)
        } catch let error as JWTError where error.errorType == .malformedToken {
            throw IdentityError(.tokenMalformed, "the token's claims are not a service account's")
        } catch {
            throw .wrapping(error, .tokenSignature, "the token's signature is by no key of the cluster")
        }
        return try check(payload, now)
    }

    private func collection(for kid: String, _ now: Date) async throws(IdentityError) -> JWTKeyCollection {
        let known = keys.withLock { $0 }
        let isKnown = known.identifiers.contains(kid)
        // By a clock that may have been set back, too.
        let age = abs(now.timeIntervalSince(known.readAt))
        if age < (isKnown ? Self.refreshInterval : Self.reloadInterval) {
            if isKnown { return known.collection }
        } else {
            keys.withLock { $0.readAt = now }
            do throws(IdentityError) {
                let fresh = try await Self.read(path, now)
                keys.withLock { $0 = fresh }
                if fresh.identifiers.contains(kid) { return fresh.collection }
            } catch {
                // A file that is being replaced: what was in it is as good as it was.
                guard isKnown else { throw error }
                return known.collection
            }
        }
        throw IdentityError(
            .tokenSignature, "the token names a key that is not among the cluster's",
            hint: "the cluster's keys may have been rotated: write \(path) anew")
    }

    private func check(_ payload: ServiceAccountPayload, _ now: Date) throws(IdentityError) -> ServiceAccountClaims {
        guard payload.iss == issuer else {
            throw IdentityError(.tokenIssuer, "the token was issued by somebody else")
        }
        guard !audiences.isDisjoint(with: payload.aud.values) else {
            throw IdentityError(
                .tokenAudience, "the token is not for \(audiences.sorted().joined(separator: " or "))")
        }
        let bound = payload.kubernetes
        guard payload.sub == "system:serviceaccount:\(bound.namespace):\(bound.serviceaccount.name)",
            !bound.namespace.isEmpty, !bound.serviceaccount.name.isEmpty
        else { throw IdentityError(.tokenSubject, "the token's subject is not its service account") }
        let expiresAt = Date(timeIntervalSince1970: payload.exp)
        guard now < expiresAt + NodeToken.leeway.timeInterval else {
            throw IdentityError(.tokenExpired, "the token of \(payload.sub) expired at \(expiresAt)")
        }
        let notBefore = Date(timeIntervalSince1970: max(payload.nbf ?? 0, payload.iat ?? 0))
        guard notBefore - NodeToken.leeway.timeInterval <= now else {
            throw IdentityError(
                .tokenNotYetValid, "the token of \(payload.sub) is valid only from \(notBefore)",
                hint: "compare the clocks of issuer and verifier")
        }
        return ServiceAccountClaims(
            namespace: bound.namespace, serviceAccount: bound.serviceaccount.name, podName: bound.pod?.name ?? "",
            podUID: bound.pod?.uid ?? "", node: bound.node?.name ?? "", expiresAt: expiresAt)
    }
}

/// The claims as they stand in the token.
private struct ServiceAccountPayload: JWTPayload {
    struct Named: Codable {
        var name: String
        var uid: String?
    }

    struct Binding: Codable {
        var namespace: String
        var serviceaccount: Named
        var pod: Named?
        var node: Named?
    }

    /// One text or a list of them (RFC 7519, section 4.1.3).
    struct Audience: Codable {
        var values: [String]

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            do {
                values = try container.decode([String].self)
            } catch {
                values = [try container.decode(String.self)]
            }
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            try container.encode(values)
        }
    }

    var iss: String
    var aud: Audience
    var sub: String
    var iat: Double?
    var nbf: Double?
    var exp: Double
    var kubernetes: Binding

    enum CodingKeys: String, CodingKey {
        case iss, aud, sub, iat, nbf, exp
        case kubernetes = "kubernetes.io"
    }

    /// The verifier compares the claims itself, after the signature, with the time it was given.
    func verify(using algorithm: some JWTAlgorithm) async throws {}
}
