import Crypto
import Foundation
import NIOSSL
import ObjectSource
import SwiftASN1
import Synchronization
import TestSupport
import Testing
import X509

@testable import Kubernetes

/// An authority, and a certificate of it.
private struct Authority {
    private let key = P256.Signing.PrivateKey()
    let certificate: Certificate

    init(_ name: String) throws {
        let subject = try DistinguishedName { CommonName(name) }
        certificate = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: .init(key.publicKey), notValidBefore: Date() - 60,
            notValidAfter: Date() + 3600, issuer: subject, subject: subject,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
            },
            issuerPrivateKey: .init(key))
    }

    var pem: String { get throws { try certificate.serializeAsPEM().pemString } }

    /// - Returns: Certificate and key, as PEM.
    func issue(_ name: String, addresses: [[UInt8]] = [[127, 0, 0, 1]], names: [String] = []) throws -> (String, String)
    {
        let own = P256.Signing.PrivateKey()
        var alternatives: [GeneralName] = addresses.map { .ipAddress(ASN1OctetString(contentBytes: $0[...])) }
        alternatives += names.map { .dnsName($0) }
        let leaf = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: .init(own.publicKey), notValidBefore: Date() - 60,
            notValidAfter: Date() + 3600, issuer: certificate.subject,
            subject: try DistinguishedName { CommonName(name) }, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions { SubjectAlternativeNames(alternatives) },
            issuerPrivateKey: .init(key))
        return (try leaf.serializeAsPEM().pemString, own.pemRepresentation)
    }
}

private func context(_ leaf: (String, String), clients: String? = nil) throws -> NIOSSLContext {
    var configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: try NIOSSLCertificate.fromPEMBytes(Array(leaf.0.utf8)).map { .certificate($0) },
        privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(leaf.1.utf8), format: .pem)))
    if let clients {
        configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(clients.utf8)))
        configuration.certificateVerification = .noHostnameVerification
    }
    return try NIOSSLContext(configuration: configuration)
}

@Suite("The client")
struct ClientTests {
    private func client(
        _ server: ScriptedServer, scheme: String = "http", trust: ClusterConfiguration.Trust = .system,
        serverName: String? = nil, credentials: ClusterConfiguration.Credentials = .none,
        _ change: (inout ClientSettings) -> Void = { _ in }
    ) -> KubernetesClient {
        var settings = ClientSettings()
        settings.requestTimeout = .seconds(5)
        change(&settings)
        return KubernetesClient(
            ClusterConfiguration(
                server: "\(scheme)://127.0.0.1:\(server.port)", trust: trust, serverName: serverName,
                credentials: credentials), settings: settings)
    }

    private static let lease =
        #"{"metadata":{"name":"l","namespace":"n","resourceVersion":"5"},"spec":{"holderIdentity":"me"}}"#

    @Test("every verb goes out as the API has it")
    func verbs() async throws {
        let calls = Mutex<[String]>([])
        let server = try await ScriptedServer { call in
            let query = call.query.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: "&")
            let type = call.headers["Content-Type"].first ?? "-"
            calls.withLock {
                $0.append("\(call.method) \(call.path)?\(query) \(type) \(String(decoding: call.body, as: UTF8.self))")
            }
            call.answer(Self.lease)
        }
        let client = client(server)
        _ = try await client.get(.pods, "web", namespace: "shop")
        _ = try await client.create(.events, ["a": 1], namespace: "shop")
        _ = try await client.update(.pods, "web", ["a": 2], namespace: "shop", subresource: "status")
        _ = try await client.patch(.nodes, "n1", .operations([["op": "test"]]))
        _ = try await client.patch(.nodes, "n1", .merge(["a": nil]))
        _ = try await client.patch(.nodes, "n1", .apply(["a": 3], force: true))
        try await client.delete(.pods, "web", namespace: "shop", uid: "u")
        let lease = try #require(try await client.lease("l", namespace: "n"))
        #expect(lease.holder == "me" && lease.version == "5")
        _ = try await client.write(lease)
        let manager = "fieldManager=apus"
        let found = calls.withLock { $0 }
        #expect(
            Array(found.prefix(8)) == [
                "GET /api/v1/namespaces/shop/pods/web? - ",
                "POST /api/v1/namespaces/shop/events?\(manager) application/json {\"a\":1}",
                "PUT /api/v1/namespaces/shop/pods/web/status?\(manager) application/json {\"a\":2}",
                "PATCH /api/v1/nodes/n1?\(manager) application/json-patch+json [{\"op\":\"test\"}]",
                "PATCH /api/v1/nodes/n1?\(manager) application/merge-patch+json {\"a\":null}",
                "PATCH /api/v1/nodes/n1?\(manager)&force=true application/apply-patch+yaml {\"a\":3}",
                "DELETE /api/v1/namespaces/shop/pods/web? application/json "
                    + #"{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"u"}}"#,
                "GET /apis/coordination.k8s.io/v1/namespaces/n/leases/l? - ",
            ])
        #expect(found.last?.hasPrefix("PUT /apis/coordination.k8s.io/v1/namespaces/n/leases/l?") == true)
        await client.close()
        await server.stop()
    }

    @Test("answers that are none, too large, late or refused are errors that say so")
    func answers() async throws {
        let server = try await ScriptedServer { call in
            switch call.path.split(separator: "/").last ?? "" {
            case "html": call.answer("<html>")
            case "large": call.answer("\"" + String(repeating: "x", count: 5000) + "\"")
            case "silent": break
            case "slow":
                call.begin()
                call.send("{")
            case "cut": call.cut()
            case "busy": call.answer(429, "{}", headers: ["Retry-After": "7"])
            case "proxy": call.answer(502, "<html>bad gateway")
            default: call.answer(404, FakeCluster.status(404, "NotFound"))
            }
        }
        let client = client(server) {
            $0.requestTimeout = .milliseconds(500)
            $0.maximumAnswer = 1000
        }
        func code(_ name: String) async -> KubernetesError? {
            await failure { _ = try await client.get(.nodes, name) }
        }
        #expect(await code("html")?.code == .badAnswer)
        #expect(await code("large")?.code == .tooLarge)
        #expect(await code("silent")?.code == .timeout)
        #expect(await code("slow")?.code == .timeout)
        #expect(await code("cut")?.code == .unreachable)
        let busy = await code("busy")
        #expect(busy?.code == .tooManyRequests && busy?.retryAfter == 7)
        #expect(await code("proxy")?.code == .serverError)
        let missing = await code("missing")
        #expect(missing?.code == .notFound && missing?.reason == "NotFound" && missing?.message == "NotFound by a test")
        await server.stop()
        #expect(await code("html")?.code == .unreachable)
        // Connections that were open are found closed first.
        try await eventually("a refusal in words") {
            let cause = await code("html")?.cause ?? ""
            return cause.contains("Connection refused") && !cause.contains("errno")
        }
        await client.close()
        #expect(await code("html") != nil)
    }

    @Test("a connection that is closed as it is used again costs nothing, unless it may have done something")
    func closedWhenIdle() async throws {
        let calls = Mutex(0)
        let server = try await ScriptedServer { call in
            let count = calls.withLock { count in
                count += 1
                return count
            }
            if count % 2 == 0 { call.cut() } else { call.answer("{}") }
        }
        let client = client(server)
        for _ in 0..<3 { _ = try await client.get(.nodes, "n") }
        #expect(calls.withLock { $0 } == 5)
        #expect(await failure { _ = try await client.create(.events, [:], namespace: "n") }?.code == .unreachable)
        #expect(calls.withLock { $0 } == 6)
        await client.close()
        await server.stop()
    }

    @Test("cancelling ends a request at once")
    func cancelled() async throws {
        let arrived = Mutex(false)
        let server = try await ScriptedServer { _ in arrived.withLock { $0 = true } }
        let client = client(server) { $0.requestTimeout = .seconds(60) }
        let task = Task { await failure { _ = try await client.get(.nodes, "n") } }
        try await eventually("the request") { arrived.withLock { $0 } }
        task.cancel()
        #expect(await task.value?.code == .cancelled)
        await client.close()
        await server.stop()
    }

    @Test("a token that a server reviews: whose it is, whether it is for us, and what it is bound to")
    func tokenReview() async throws {
        let status = Mutex("")
        let server = try await ScriptedServer { call in call.answer(201, "{\"status\":\(status.withLock { $0 })}") }
        let client = client(server)
        func review(_ text: String) async throws -> ReviewedToken? {
            status.withLock { $0 = text }
            return try await client.review(token: "t", audiences: ["istio-ca"])
        }
        let good = try await review(
            """
            {"authenticated": true, "audiences": ["istio-ca"], "user": {"username": "system:serviceaccount:shop:web",
             "uid": "u", "groups": ["g"], "extra": {"authentication.kubernetes.io/pod-name": ["web-1"],
             "authentication.kubernetes.io/node-name": ["n1"]}}}
            """)
        #expect(good?.serviceAccount == ObjectName(namespace: "shop", name: "web"))
        #expect(good?.podName == "web-1" && good?.nodeName == "n1" && good?.groups == ["g"])
        #expect(try await review(#"{"authenticated": false, "error": "expired"}"#) == nil)
        #expect(
            try await review(#"{"authenticated": true, "audiences": ["other"], "user": {"username": "x"}}"#) == nil)
        #expect(try await review(#"{"authenticated": true, "user": {"username": "x"}}"#) == nil)
        #expect(await failure { _ = try await review(#"{"authenticated": true, "audiences": ["istio-ca"]}"#) } != nil)
        await client.close()
        await server.stop()
    }

    @Test("a server is trusted by its authority and its name, and a rotated authority is taken up without a restart")
    func trust() async throws {
        let (old, new) = (try Authority("old"), try Authority("new"))
        let leaf = Mutex(try old.issue("api"))
        let server = try await ScriptedServer(tls: { try context(leaf.withLock { $0 }) }) { call in
            call.answer(200, "{}", headers: ["Connection": "close"])
        }
        let folder = try TemporaryFolder()
        let path = try folder.write("ca.crt", try old.pem)
        let client = client(server, scheme: "https", trust: .authority(.file(path)))
        _ = try await client.get(.nodes, "n")
        leaf.withLock { value in
            // The key material of a test; it cannot fail where it did not before.
            if let fresh = try? new.issue("api") { value = fresh }
        }
        #expect(await failure { _ = try await client.get(.nodes, "n") }?.code == .untrusted)
        // As in a rotation: both for a time, then the new one alone.
        try folder.write("ca.crt", try old.pem + "\n" + new.pem)
        _ = try await client.get(.nodes, "n")
        try folder.write("ca.crt", "garbage")
        _ = try await client.get(.nodes, "n")
        try folder.write("ca.crt", try new.pem)
        _ = try await client.get(.nodes, "n")
        await client.close()
        await server.stop()
    }

    @Test("a certificate for another name is refused, unless that is the name asked for")
    func names() async throws {
        let authority = try Authority("a")
        let leaf = try authority.issue("api", addresses: [], names: ["kubernetes.default"])
        let server = try await ScriptedServer(tls: { try context(leaf) }) { $0.answer("{}") }
        let trust = ClusterConfiguration.Trust.authority(.bytes(Array(try authority.pem.utf8)))
        let byAddress = client(server, scheme: "https", trust: trust)
        #expect(await failure { _ = try await byAddress.get(.nodes, "n") }?.code == .untrusted)
        let byName = client(server, scheme: "https", trust: trust, serverName: "kubernetes.default")
        _ = try await byName.get(.nodes, "n")
        let blind = client(server, scheme: "https", trust: .nobodyIsChecked)
        _ = try await blind.get(.nodes, "n")
        for client in [byAddress, byName, blind] { await client.close() }
        await server.stop()
    }

    @Test("a client's certificate is shown, and a renewed one is taken up")
    func clientCertificate() async throws {
        let (authority, clients) = (try Authority("a"), try Authority("clients"))
        let leaf = try authority.issue("api")
        let roots = try clients.pem
        let server = try await ScriptedServer(tls: { try context(leaf, clients: roots) }) { call in
            call.answer(200, "{}", headers: ["Connection": "close"])
        }
        let folder = try TemporaryFolder()
        let wrong = try authority.issue("me")
        let chain = try folder.write("me.crt", wrong.0)
        let key = try folder.write("me.key", wrong.1)
        let client = client(
            server, scheme: "https", trust: .authority(.bytes(Array(try authority.pem.utf8))),
            credentials: .certificate(chain: .file(chain), key: .file(key)))
        #expect(await failure { _ = try await client.get(.nodes, "n") } != nil)
        let right = try clients.issue("me")
        try folder.write("me.key", right.1)
        try folder.write("me.crt", right.0)
        _ = try await client.get(.nodes, "n")
        await client.close()
        await server.stop()
    }

    @Test("a taint is taken off, tried again when somebody changes the list meanwhile, and no other goes with it")
    func taint() async throws {
        let patches = Mutex<[String]>([])
        let server = try await ScriptedServer { call in
            guard call.method == "PATCH" else {
                return call.answer(
                    """
                    {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"},
                     {"key": "cni.istio.io/not-ready", "effect": "NoSchedule"},
                     {"key": "cni.istio.io/not-ready", "effect": "NoExecute"}]}}
                    """)
            }
            let isFirst = patches.withLock {
                $0.append(String(decoding: call.body, as: UTF8.self))
                return $0.count == 1
            }
            call.answer(isFirst ? 422 : 200, isFirst ? FakeCluster.status(422, "Invalid") : "{}")
        }
        let client = client(server)
        #expect(try await NodeTaint.remove(NodeTaint.notReady, from: "n1", client))
        #expect(patches.withLock { $0.count } == 2)
        #expect(
            patches.withLock { $0.last }?.hasSuffix(
                #"{"op":"replace","path":"/spec/taints","value":[{"effect":"NoSchedule","key":"a"}]}]"#) == true)
        #expect(try await NodeTaint.remove("other", from: "n1", client) == false)
        await client.close()
        await server.stop()
    }

    @Test("an event is made once and counted after, survives a server that is away, and never holds up who records it")
    func events() async throws {
        let calls = Mutex<[(method: String, path: String, body: String)]>([])
        let refusals = Mutex(2)
        let server = try await ScriptedServer { call in
            let isRefused = refusals.withLock { left in
                left -= 1
                return left >= 0
            }
            if isRefused { return call.answer(503, "{}") }
            calls.withLock { $0.append((call.method, call.path, String(decoding: call.body, as: UTF8.self))) }
            call.answer(201, "{}")
        }
        let client = client(server)
        let recorder = ClusterEventRecorder(client, component: "apus-agent", instance: "n1")
        let pod = PodReference(name: ObjectName(namespace: "shop", name: "web"), uid: "u")
        for _ in 0..<50 {
            try await recorder.record(PodEvent(pod, reason: "EnrollFailed", message: "do this"))
        }
        try await recorder.record(PodEvent(pod, reason: "Enrolled", message: "done", isWarning: false))
        try await eventually("both") { calls.withLock { $0.count } >= 2 }
        let found = calls.withLock { $0 }
        #expect(found.map(\.method) == ["POST", "POST"])
        #expect(found.allSatisfy { $0.path == "/api/v1/namespaces/shop/events" })
        let first = try DocumentTree(json: Array(found[0].body.utf8)).root
        #expect(first["involvedObject"]?["uid"]?.string == "u")
        #expect(first["type"]?.string == "Warning" && first["reason"]?.string == "EnrollFailed")
        #expect(first["reportingInstance"]?.string == "n1" && first["message"]?.string == "do this")
        #expect(found[1].body.contains(#""type":"Normal""#))
        recorder.close()
        await client.close()
        await server.stop()
    }

    @Test("annotations of a pod that is gone or another one are nobody's trouble, all else is an error")
    func annotator() async throws {
        let status = Mutex(200)
        let server = try await ScriptedServer { call in
            let code = status.withLock { $0 }
            call.answer(code, code == 200 ? "{}" : FakeCluster.status(code, "X"))
        }
        let client = client(server)
        let annotator = ClusterPodAnnotator(client)
        let pod = PodReference(name: ObjectName(namespace: "shop", name: "web"), uid: "u")
        for code in [200, 404, 409] {
            status.withLock { $0 = code }
            try await annotator.annotate(pod, with: [:])
        }
        status.withLock { $0 = 403 }
        await #expect(throws: ObjectSourceError.self) { try await annotator.annotate(pod, with: [:]) }
        await client.close()
        await server.stop()
    }
}
