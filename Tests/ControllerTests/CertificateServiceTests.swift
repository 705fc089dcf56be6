import Addressing
import Crypto
import Foundation
import GRPCCore
import JWTKit
import Mesh
import SwiftProtobuf
import Testing
import X509

@testable import Controller
@testable import Identity

@Suite("The certificate service", .timeLimit(.minutes(3)))
struct CertificateServiceTests {
    private func uris(_ pem: String) throws -> [String] {
        let names = try Certificate(pemEncoded: pem).extensions.subjectAlternativeNames
        return (names ?? SubjectAlternativeNames()).compactMap {
            if case .uniformResourceIdentifier(let uri) = $0 { uri } else { nil }
        }
    }

    @Test("R46: a node's proxy gets certificates for the pods on its node, named by what it asks for")
    func good() async throws {
        let controller = try await RunningController()
        let token = try await controller.token()
        // The request wishes for another name, and does not get it.
        let csr = try Requests.pem(Requests.request(name: "spiffe://cluster.local/ns/kube-system/sa/admin"))
        let chain = try await controller.sign(.init(authorization: ["Bearer \(token)"], csr: csr))
        // R51: the leaf, and the root last.
        #expect(chain.count == 2)
        #expect(try uris(chain[0]) == ["spiffe://cluster.local/ns/shop/sa/web"])
        #expect(chain[1] == controller.server.rootPEM)
        let leaf = try Certificate(pemEncoded: chain[0])
        #expect(abs(leaf.notValidAfter.timeIntervalSinceNow - 3600) < 60)

        // Without impersonation it is the proxy's own name.
        let own = try await controller.sign(
            .init(authorization: ["bearer \(token)"], csr: csr, identity: nil, validity: 0))
        #expect(try uris(own[0]) == ["spiffe://cluster.local/ns/istio-system/sa/ztunnel"])
        try await controller.stop()
    }

    @Test("the real client, from token and root on disk")
    func realClient() async throws {
        let controller = try await RunningController()
        let tokenFile = controller.folder + "/token"
        try (await controller.token() + "\n").write(toFile: tokenFile, atomically: true, encoding: .utf8)
        let client = try IstioCertificateClient(
            CertificateServiceSettings(
                address: controller.address, rootFile: controller.state + "/root-cert.pem", tokenFile: tokenFile,
                serverName: "istiod.istio-system.svc"))
        let key = P256.Signing.PrivateKey()
        let identity = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web")
        let chain = try await client.sign(
            csrPEM: Requests.pem(Requests.request(key: key)), for: identity, validity: .seconds(3600))
        let certificate = try await chain.certificate(for: identity, key: key, at: Date())
        #expect(certificate.identity == identity)
        await client.close()
        try await controller.stop()
    }

    @Test(
        "R48: only identities of pods that run on the caller's node",
        arguments: [
            ("n1", "shop/sa/web", true), ("n2", "shop/sa/web", false), ("n1", "shop/sa/db", false),
            ("n2", "shop/sa/db", true), ("n1", "shop/sa/failed", false), ("n1", "other/sa/web", false),
        ])
    func nodeBound(node: String, identity: String, expected: Bool) async throws {
        let controller = try await RunningController()
        let call = try RunningController.Call(
            authorization: ["Bearer \(await controller.token(node))"], csr: Requests.good(),
            identity: Google_Protobuf_Value(stringValue: "spiffe://cluster.local/ns/\(identity)"))
        if expected {
            #expect(try uris(await controller.sign(call)[0]) == ["spiffe://cluster.local/ns/\(identity)"])
        } else {
            let error = await #expect(throws: RPCError.self) { try await controller.sign(call) }
            #expect(error?.code == .unauthenticated)
        }
        try await controller.stop()
    }

    @Test("a pod whose report is on its way is waited for")
    func lateReport() async throws {
        let controller = try await RunningController()
        let pod = """
            apiVersion: v1
            kind: Pod
            metadata: {name: late, namespace: shop}
            spec: {serviceAccountName: late}
            """
        try pod.write(toFile: controller.source + "/late.yaml", atomically: true, encoding: .utf8)
        async let chain = controller.sign(
            .init(
                authorization: ["Bearer \(controller.token())"], csr: Requests.good(),
                identity: Google_Protobuf_Value(stringValue: "spiffe://cluster.local/ns/shop/sa/late")))
        try controller.report("late")
        #expect(try uris(await chain[0]) == ["spiffe://cluster.local/ns/shop/sa/late"])
        try await controller.stop()
    }

    @Test("R47: whatever is wrong, the answer is the same, and the next good request works")
    func hostile() async throws {
        let controller = try await RunningController()
        let token = try await controller.token()
        let key = try ES256PrivateKey(pem: String(contentsOfFile: controller.state + "/token.key", encoding: .utf8))
        let csr = try Requests.good()
        func claims(_ change: (inout NodeTokenPayload) -> Void) async throws -> String {
            let now = Int64(Date().timeIntervalSince1970)
            var payload = NodeTokenPayload(
                iss: "apus", aud: ["istio-ca"], sub: "system:serviceaccount:istio-system:ztunnel", iat: now, nbf: now,
                exp: now + 600, jti: "1",
                kubernetes: .init(
                    namespace: "istio-system", node: .init(name: "n1"), serviceaccount: .init(name: "ztunnel")))
            change(&payload)
            return "Bearer " + (try await JWTKeyCollection().add(ecdsa: key).sign(payload))
        }
        // The way to make tokens by hand is right: what is refused below is so for its one difference.
        _ = try await controller.sign(.init(authorization: [claims { _ in }], csr: csr))

        func identity(_ text: String) -> Google_Protobuf_Value { Google_Protobuf_Value(stringValue: text) }
        let mine = ["Bearer \(token)"]
        let foreignKey = try await NodeTokenIssuer(key: P256.Signing.PrivateKey()).issue(node: "n1", now: Date()).token
        let calls: [(String, RunningController.Call)] = [
            ("no token", .init(authorization: [], csr: csr)),
            ("an empty token", .init(authorization: ["Bearer "], csr: csr)),
            ("no bearer token", .init(authorization: ["Basic \(token)"], csr: csr)),
            ("two tokens", .init(authorization: mine + mine, csr: csr)),
            ("garbage", .init(authorization: ["Bearer a.b.c"], csr: csr)),
            ("a large token", .init(authorization: ["Bearer " + String(repeating: "x", count: 9000)], csr: csr)),
            (
                "a token without signature",
                .init(authorization: [String(mine[0].prefix { $0 != "." }) + ".e30."], csr: csr)
            ),
            ("another key's token", .init(authorization: ["Bearer \(foreignKey)"], csr: csr)),
            (
                "an expired token",
                .init(
                    authorization: ["Bearer " + (try await controller.token(now: Date() - 25 * 3600))], csr: csr)
            ),
            ("another audience", .init(authorization: [try await claims { $0.aud = ["kubernetes"] }], csr: csr)),
            ("another issuer", .init(authorization: [try await claims { $0.iss = "me" }], csr: csr)),
            (
                "another account",
                .init(authorization: [try await claims { $0.sub = "system:serviceaccount:shop:web" }], csr: csr)
            ),
            (
                "a token of the future",
                .init(authorization: [try await claims { $0.nbf += 300 }], csr: csr)
            ),
            ("another node's token", .init(authorization: ["Bearer " + (try await controller.token("n2"))], csr: csr)),
            (
                "an identity of another node",
                .init(authorization: mine, csr: csr, identity: identity("spiffe://cluster.local/ns/shop/sa/db"))
            ),
            (
                "an identity of a failed pod",
                .init(authorization: mine, csr: csr, identity: identity("spiffe://cluster.local/ns/shop/sa/failed"))
            ),
            (
                "an identity of nobody",
                .init(authorization: mine, csr: csr, identity: identity("spiffe://cluster.local/ns/x/sa/y"))
            ),
            (
                "another trust domain",
                .init(authorization: mine, csr: csr, identity: identity("spiffe://td2/ns/shop/sa/web"))
            ),
            ("an identity that is none", .init(authorization: mine, csr: csr, identity: identity("web"))),
            (
                "an identity that is a number",
                .init(authorization: mine, csr: csr, identity: Google_Protobuf_Value(numberValue: 1))
            ),
            (
                "a request to be an authority",
                .init(authorization: mine, csr: try Requests.pem(Requests.request(asAuthority: true)))
            ),
            ("a forged request", .init(authorization: mine, csr: try Requests.forged())),
            ("no request", .init(authorization: mine, csr: "")),
            ("garbage for a request", .init(authorization: mine, csr: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n")),
            ("a large request", .init(authorization: mine, csr: String(repeating: "A", count: 1 << 20))),
            ("too long a life", .init(authorization: mine, csr: csr, validity: 91 * 24 * 3600)),
            ("no end of life", .init(authorization: mine, csr: csr, validity: .max)),
        ]
        await withTaskGroup(of: Void.self) { group in
            for (what, call) in calls {
                group.addTask {
                    do {
                        _ = try await controller.sign(call)
                        Issue.record("\(what) was accepted")
                    } catch let error as RPCError {
                        #expect(error.code == .unauthenticated, "\(what)")
                        #expect(error.message == "the request is not authenticated", "\(what)")
                    } catch {
                        Issue.record("\(what): \(error)")
                    }
                }
            }
        }
        #expect(try await controller.sign(.init(authorization: mine, csr: csr)).count == 2)
        try await controller.stop()
    }
}
