import Crypto
import Foundation
import JWTKit
import Testing

@testable import Identity

@Suite struct ServiceAccountTokenTests {
    let now = Date(timeIntervalSince1970: 1_800_000_000)
    let key = P256.Signing.PrivateKey()
    let folder: TemporaryDirectory

    init() throws { folder = try TemporaryDirectory() }

    private static func base64url(_ bytes: some Sequence<UInt8>) -> String {
        Data(Array(bytes)).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
            "=", with: "")
    }

    private func jwk(_ key: P256.Signing.PrivateKey, _ kid: String) -> String {
        let raw = key.publicKey.rawRepresentation
        return #"{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"\#(kid)","#
            + #""x":"\#(Self.base64url(raw.prefix(32)))","y":"\#(Self.base64url(raw.suffix(32)))"}"#
    }

    private func verifier() async throws -> ServiceAccountTokenVerifier {
        let path = try folder.write("keys.json", #"{"keys":[\#(jwk(key, "k1"))]}"#)
        return try await ServiceAccountTokenVerifier(
            jwksFile: path, issuer: "https://kubernetes.default.svc", audiences: ["istio-ca"], now: now)
    }

    static let pod = #""pod":{"name":"web-1","uid":"u1"},"node":{"name":"n1","uid":"u2"},"#

    private func token(
        header: String = #"{"alg":"ES256","kid":"k1"}"#, iss: String = "https://kubernetes.default.svc",
        aud: String = #"["istio-ca"]"#, sub: String = "system:serviceaccount:shop:web", iat: Int = 1_799_999_990,
        exp: Int = 1_800_003_600, bound: String = pod, by signer: P256.Signing.PrivateKey? = nil
    ) throws -> String {
        let claims =
            #"{"iss":"\#(iss)","aud":\#(aud),"sub":"\#(sub)","iat":\#(iat),"nbf":\#(iat),"exp":\#(exp),"#
            + #""kubernetes.io":{"namespace":"shop",\#(bound)"serviceaccount":{"name":"web","uid":"u3"}}}"#
        let input = Self.base64url(header.utf8) + "." + Self.base64url(claims.utf8)
        let signature = try (signer ?? key).signature(for: Data(input.utf8)).rawRepresentation
        return input + "." + Self.base64url(signature)
    }

    @Test("R47: who holds a service account's token, by the cluster's keys")
    func good() async throws {
        let verifier = try await verifier()
        let claims = try await verifier.verify(token(), now: now)
        #expect(claims.namespace == "shop" && claims.serviceAccount == "web")
        #expect(claims.podName == "web-1" && claims.podUID == "u1" && claims.node == "n1")
        // Bound to no pod; an audience that stands alone.
        let free = try await verifier.verify(token(aud: #""istio-ca""#, bound: ""), now: now)
        #expect(free.podName.isEmpty && free.node.isEmpty)
    }

    @Test("R47: every other token is refused, for its one difference")
    func bad() async throws {
        let verifier = try await verifier()
        let stranger = P256.Signing.PrivateKey()
        let good = try token()
        let cases: [(String, String, IdentityError.Code)] = [
            ("garbage", "a.b", .tokenMalformed),
            ("no algorithm", try token(header: #"{"alg":"none","kid":"k1"}"#), .tokenAlgorithm),
            ("a shared key", try token(header: #"{"alg":"HS256","kid":"k1"}"#), .tokenAlgorithm),
            ("no key", try token(header: #"{"alg":"ES256"}"#), .tokenMalformed),
            ("an unknown key", try token(header: #"{"alg":"ES256","kid":"k9"}"#), .tokenSignature),
            ("somebody else's signature", try token(by: stranger), .tokenSignature),
            ("a changed claim", good.replacing(".", with: ".e30", maxReplacements: 1), .tokenSignature),
            ("another issuer", try token(iss: "https://elsewhere"), .tokenIssuer),
            ("another audience", try token(aud: #"["api"]"#), .tokenAudience),
            ("another subject", try token(sub: "system:serviceaccount:shop:admin"), .tokenSubject),
            ("expired", try token(exp: 1_799_999_980), .tokenExpired),
            ("of the future", try token(iat: 1_800_000_100), .tokenNotYetValid),
        ]
        for (name, token, code) in cases {
            let error = await #expect(throws: IdentityError.self) { try await verifier.verify(token, now: now) }
            let isRight = error?.code == code || code == .tokenSignature && error?.code == .tokenMalformed
            #expect(isRight, "\(name): \(String(describing: error))")
            #expect(!"\(String(describing: error))".contains(token.suffix(20)))
        }
        // Clocks may differ by a little.
        _ = try await verifier.verify(token(exp: 1_799_999_995), now: now)
    }

    @Test("R47: keys are read again when they were rotated, and believed when the file cannot be read")
    func rotation() async throws {
        let verifier = try await verifier()
        let next = P256.Signing.PrivateKey()
        let token2 = try token(header: #"{"alg":"ES256","kid":"k2"}"#, by: next)
        _ = try folder.write("keys.json", #"{"keys":[\#(jwk(next, "k2"))]}"#)
        // Not at every wrong token.
        let early = await #expect(throws: IdentityError.self) { try await verifier.verify(token2, now: now + 1) }
        #expect(early?.code == .tokenSignature)
        _ = try await verifier.verify(token2, now: now + 11)
        let old = await #expect(throws: IdentityError.self) { try await verifier.verify(token(), now: now + 30) }
        #expect(old?.code == .tokenSignature)
        _ = try folder.write("keys.json", "{")
        _ = try await verifier.verify(token2, now: now + 120)
    }

    @Test("R47: a file without keys is refused")
    func files() async throws {
        for text in ["", "{}", #"{"keys":[]}"#, #"{"keys":[{"kty":"EC"}]}"#] {
            let path = try folder.write("keys.json", text)
            let error = await #expect(throws: IdentityError.self) {
                try await ServiceAccountTokenVerifier(jwksFile: path, issuer: "x", audiences: ["a"], now: now)
            }
            #expect(error?.code == .fileMalformed, "\(text)")
        }
    }
}
