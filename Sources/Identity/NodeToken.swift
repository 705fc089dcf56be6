public import FoundationEssentials
import JWTKit

/// What a verified node token says.
public struct NodeTokenClaims: Sendable, Hashable {
    /// The node whose ztunnel this is; the authority signs only for pods on it.
    public let node: String
    public let namespace: String
    public let serviceAccount: String
    public let issuedAt: Date
    public let expiresAt: Date
}

/// Tokens by which a ztunnel shows which node it belongs to: JSON Web Tokens (RFC 7519) signed with ES256.
///
/// Their claims are those of a Kubernetes service account token bound to a node.
public enum NodeToken {
    public static let issuer = "apus"
    public static let audience = "istio-ca"
    public static let namespace = "istio-system"
    public static let serviceAccount = "ztunnel"
    public static let keyFileName = "token.key"
    /// Lifetime of a token.
    public static let validity = Duration.seconds(24 * 3600)
    /// How far the clocks of issuer and verifier may be apart.
    public static let leeway = Duration.seconds(10)
    /// Longer texts are not looked at.
    public static let maximumSize = 8 << 10

    static let subject = "system:serviceaccount:\(namespace):\(serviceAccount)"
}

/// The claims as they stand in the token.
struct NodeTokenPayload: JWTPayload {
    struct Named: Codable {
        var name: String
    }

    struct Binding: Codable {
        var namespace: String
        var node: Named
        var serviceaccount: Named
    }

    var iss: String
    var aud: [String]
    var sub: String
    var iat: Int64
    var nbf: Int64
    var exp: Int64
    var jti: String
    var kubernetes: Binding

    enum CodingKeys: String, CodingKey {
        case iss, aud, sub, iat, nbf, exp, jti
        case kubernetes = "kubernetes.io"
    }

    /// The verifier compares the claims itself, after the signature, with the time it was given.
    func verify(using algorithm: some JWTAlgorithm) async throws {}
}
