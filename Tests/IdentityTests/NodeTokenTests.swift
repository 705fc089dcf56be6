import Crypto
import Foundation
import JWTKit
import Testing

@testable import Identity

@Suite struct NodeTokenTests {
    let now = Date(timeIntervalSince1970: 1_800_000_000)
    let key = P256.Signing.PrivateKey()
    let issuer: NodeTokenIssuer

    init() async throws { issuer = try await NodeTokenIssuer(key: key) }

    private func refusal(_ token: String?, at time: Date? = nil) async -> IdentityError? {
        do {
            _ = try await issuer.verifier.verify(token, now: time ?? now)
            return nil
        } catch {
            return error
        }
    }

    private func base64url(_ bytes: some Sequence<UInt8>) -> String {
        Data(Array(bytes)).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
            "=", with: "")
    }

    /// A token of any header and claims under this mesh's own key.
    private func token(
        header: String = #"{"alg":"ES256","typ":"JWT"}"#, claims: String, key: P256.Signing.PrivateKey? = nil
    ) throws -> String {
        let input = base64url(header.utf8) + "." + base64url(claims.utf8)
        let key = key ?? self.key
        let signature = try key.signature(for: Data(input.utf8)).rawRepresentation
        return input + "." + base64url(signature)
    }

    private func claims(
        iss: String = #""apus""#, aud: String = #"["istio-ca"]"#,
        sub: String = #""system:serviceaccount:istio-system:ztunnel""#, iat: Int = 1_800_000_000,
        exp: String = "1800086400",
        bound: String = #"{"namespace":"istio-system","node":{"name":"n1"},"serviceaccount":{"name":"ztunnel"}}"#
    ) -> String {
        #"{"iss":\#(iss),"aud":\#(aud),"sub":\#(sub),"iat":\#(iat),"nbf":\#(iat),"exp":\#(exp),"jti":"1","kubernetes.io":\#(bound)}"#
    }

    @Test func issuesWhatItVerifies() async throws {
        let (token, expiresAt) = try await issuer.issue(node: "n1", now: now)
        let claims = try await issuer.verifier.verify(token, now: now)
        #expect(claims.node == "n1")
        #expect(claims.namespace == "istio-system")
        #expect(claims.serviceAccount == "ztunnel")
        #expect(claims.issuedAt == now)
        #expect(claims.expiresAt == expiresAt)
        #expect(expiresAt == now + 24 * 3600)

        let parts = token.split(separator: ".")
        #expect(parts.count == 3)
        var header = String(parts[0]).replacing("-", with: "+").replacing("_", with: "/")
        header += String(repeating: "=", count: (4 - header.count % 4) % 4)
        let bytes = try #require(Data(base64Encoded: header))
        let json = try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
        #expect(json["alg"] as? String == "ES256")
    }

    @Test func handMadeTokenOfTheSameFormIsGood() async throws {
        #expect(try await issuer.verifier.verify(try token(claims: claims()), now: now).node == "n1")
        let several = claims(aud: #"["other","istio-ca"]"#)
        #expect(try await issuer.verifier.verify(try token(claims: several), now: now).node == "n1")
    }

    @Test func acceptsABearerHeader() async throws {
        let (token, _) = try await issuer.issue(node: "n1", now: now)
        #expect(try await issuer.verifier.verify(authorization: "Bearer \(token)", now: now).node == "n1")
        #expect(try await issuer.verifier.verify(authorization: "bearer \(token)", now: now).node == "n1")
    }

    @Test(
        arguments: [
            (nil, .tokenMissing), ("", .tokenMissing), ("Bearer ", .tokenMalformed), ("Bearer", .tokenMalformed),
            ("Basic dXNlcjpwYXNz", .tokenMalformed), ("Bearer a.b", .tokenMalformed),
        ] as [(String?, IdentityError.Code)])
    func refusesABadHeader(header: String?, code: IdentityError.Code) async throws {
        let error = await #expect(throws: IdentityError.self) {
            try await issuer.verifier.verify(authorization: header, now: now)
        }
        #expect(error?.code == code)
    }

    @Test(
        arguments: [
            (nil, .tokenMissing), ("", .tokenMissing), ("x", .tokenMalformed), ("..", .tokenMalformed),
            ("a.b.c", .tokenMalformed), ("a.b.c.d", .tokenMalformed), ("e30.e30.e30", .tokenAlgorithm),
            ("bm90IGpzb24.e30.e30", .tokenMalformed), ("W10.e30.e30", .tokenMalformed),
            ("eyJhbGciOiJFUzI1NiJ9.e30.e30\n", .tokenMalformed), ("eyJhbGciOiJFUzI1NiJ9.e30=.e30", .tokenMalformed),
            ("eyJhbGciOiJFUzI1NiJ9.e30.", .tokenSignature), ("eyJhbGciOiJFUzI1NiJ9.e30.e30", .tokenSignature),
            (String(repeating: "a", count: 9000), .tokenMalformed),
        ] as [(String?, IdentityError.Code)])
    func refusesWhatIsNoToken(text: String?, code: IdentityError.Code) async {
        #expect(await refusal(text)?.code == code)
    }

    static let wrongClaims: [(String, IdentityError.Code)] = {
        func claims(_ changes: [String: String]) -> String {
            var values = [
                "iss": #""apus""#, "aud": #"["istio-ca"]"#, "sub": #""system:serviceaccount:istio-system:ztunnel""#,
                "iat": "1800000000", "nbf": "1800000000", "exp": "1800086400", "jti": #""1""#,
                "kubernetes.io":
                    #"{"namespace":"istio-system","node":{"name":"n1"},"serviceaccount":{"name":"ztunnel"}}"#,
            ]
            for (name, value) in changes { values[name] = value.isEmpty ? nil : value }
            return "{" + values.map { #""\#($0.key)":\#($0.value)"# }.joined(separator: ",") + "}"
        }
        func bound(_ namespace: String, _ node: String, _ account: String) -> String {
            #"{"namespace":"\#(namespace)","node":{"name":"\#(node)"},"serviceaccount":{"name":"\#(account)"}}"#
        }
        return [
            (claims(["iss": #""kubernetes""#]), .tokenIssuer), (claims(["iss": #""""#]), .tokenIssuer),
            (claims(["iss": ""]), .tokenMalformed), (claims(["iss": "1"]), .tokenMalformed),
            (claims(["aud": #"["other"]"#]), .tokenAudience), (claims(["aud": "[]"]), .tokenAudience),
            (claims(["aud": ""]), .tokenMalformed),
            (claims(["sub": #""system:serviceaccount:default:ztunnel""#]), .tokenSubject),
            (claims(["kubernetes.io": bound("default", "n1", "ztunnel")]), .tokenSubject),
            (claims(["kubernetes.io": bound("istio-system", "n1", "other")]), .tokenSubject),
            (claims(["kubernetes.io": bound("istio-system", "", "ztunnel")]), .tokenMalformed),
            (
                claims(["kubernetes.io": bound("istio-system", String(repeating: "n", count: 254), "ztunnel")]),
                .tokenMalformed
            ),
            (claims(["kubernetes.io": ""]), .tokenMalformed),
            (claims(["exp": "1799990000"]), .tokenExpired), (claims(["exp": "0"]), .tokenExpired),
            (claims(["exp": "-9223372036854775808"]), .tokenExpired),
            (claims(["exp": ""]), .tokenMalformed), (claims(["exp": #""never""#]), .tokenMalformed),
            (claims(["exp": "1e400"]), .tokenMalformed), (claims(["exp": "null"]), .tokenMalformed),
            (claims(["nbf": "1800000011"]), .tokenNotYetValid), (claims(["iat": "1800000011"]), .tokenNotYetValid),
            ("[]", .tokenMalformed), ("null", .tokenMalformed), ("", .tokenMalformed), ("{", .tokenMalformed),
        ]
    }()

    @Test(arguments: wrongClaims)
    func refusesWrongClaimsUnderAGoodSignature(claims: String, code: IdentityError.Code) async throws {
        #expect(await refusal(try token(claims: claims))?.code == code)
    }

    @Test(arguments: [
        #"{"alg":"none"}"#, #"{"alg":"None"}"#, #"{"alg":""}"#, #"{"alg":"HS256"}"#, #"{"alg":"ES384"}"#,
        #"{"alg":"RS256"}"#, #"{"alg":"es256"}"#, "{}", #"{"alg":"ES256","crit":["x"],"x":1}"#,
    ])
    func refusesEveryOtherAlgorithm(header: String) async throws {
        #expect(await refusal(try token(header: header, claims: claims()))?.code == .tokenAlgorithm)
        // Without a signature, as an attacker would send it.
        let bare = base64url(header.utf8) + "." + base64url(claims().utf8) + "."
        #expect(await refusal(bare)?.code == .tokenAlgorithm)
    }

    @Test func refusesATokenKeyedWithThePublicKey() async throws {
        // The classic confusion: HMAC over the text, with the public key as the secret.
        let input = base64url(#"{"alg":"HS256","typ":"JWT"}"#.utf8) + "." + base64url(claims().utf8)
        let secret = SymmetricKey(data: Data(key.publicKey.pemRepresentation.utf8))
        let mac = HMAC<SHA256>.authenticationCode(for: Data(input.utf8), using: secret)
        #expect(await refusal(input + "." + base64url(Data(mac)))?.code == .tokenAlgorithm)
    }

    @Test func refusesAnotherKeysToken() async throws {
        let stranger = P256.Signing.PrivateKey()
        #expect(await refusal(try token(claims: claims(), key: stranger))?.code == .tokenSignature)
    }

    @Test func refusesAChangedToken() async throws {
        let (token, _) = try await issuer.issue(node: "n1", now: now)
        let parts = token.split(separator: ".").map(String.init)
        let other = try await issuer.issue(node: "n2", now: now).token.split(separator: ".").map(String.init)
        #expect(await refusal([parts[0], other[1], parts[2]].joined(separator: "."))?.code == .tokenSignature)
        #expect(await refusal([parts[0], parts[1], other[2]].joined(separator: "."))?.code == .tokenSignature)
        #expect(
            await refusal([parts[0], parts[1], String(parts[2].dropLast(2))].joined(separator: "."))?.code
                == .tokenSignature)
    }

    @Test func expiresAfterADayAndALittle() async throws {
        let (token, _) = try await issuer.issue(node: "n1", now: now)
        let day = 24.0 * 3600
        #expect(await refusal(token, at: now + day - 1) == nil)
        #expect(await refusal(token, at: now + day + 9) == nil)
        #expect(await refusal(token, at: now + day + 10)?.code == .tokenExpired)
        #expect(await refusal(token, at: now - 10) == nil)
        #expect(await refusal(token, at: now - 11)?.code == .tokenNotYetValid)
    }

    @Test func errorsNeverQuoteTheToken() async throws {
        let (token, _) = try await issuer.issue(node: "n1", now: now)
        for text in [token + "x", "x" + token, String(token.dropLast(5)), token.replacing(".", with: "")] {
            let error = try #require(await refusal(text))
            for part in token.split(separator: ".") { #expect(!error.description.contains(part)) }
        }
    }

    @Test func theKeyLivesInAFileOfItsOwner() async throws {
        let directory = try TemporaryDirectory()
        let first = try await NodeTokenIssuer(directory: directory.path)
        #expect(try directory.mode("token.key") == 0o600)
        let token = try await first.issue(node: "n1", now: now).token
        let second = try await NodeTokenIssuer(directory: directory.path)
        #expect(try await second.verifier.verify(token, now: now).node == "n1")

        try directory.setMode("token.key", 0o644)
        let error = await #expect(throws: IdentityError.self) { try await NodeTokenIssuer(directory: directory.path) }
        #expect(error?.code == .filePermissions)
    }

    @Test(arguments: ["", String(repeating: "n", count: 254)])
    func refusesANodeWithoutAProperName(node: String) async {
        let error = await #expect(throws: IdentityError.self) { try await issuer.issue(node: node, now: now) }
        #expect(error?.code == .configuration)
    }
}
