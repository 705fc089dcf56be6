import Crypto
import Discovery
import Foundation
import GRPCCore
import Kubernetes
import Mesh
import ObjectSource
import TestSupport
import Testing
import X509

@testable import Controller
@testable import Identity

/// The controller on an API server.
@Suite("The controller of a cluster", .serialized, .timeLimit(.minutes(5)))
struct ClusterControllerTests {
    /// A namespace with a pod on each of two nodes, and the proxies of the nodes with their tokens.
    private func cluster() async throws -> ClusterAPI {
        let api = try await ClusterAPI()
        for name in ["shop", "istio-system"] { try await api.namespace(name) }
        try await api.pod("web", account: "web", node: "n1")
        try await api.pod("db", account: "db", node: "n2")
        let ztunnel = try await api.pod("ztunnel-1", account: "ztunnel", node: "n1", in: "istio-system")
        let impostor = try await api.pod("job", account: "job", node: "n1", in: "istio-system")
        let web = try #require(try await api.client.get(.pods, "web", namespace: "shop")["metadata"]?["uid"]?.string)
        api.tokens([
            "node1": ClusterAPI.podToken("ztunnel", pod: "ztunnel-1", uid: ztunnel),
            "node1-named": ClusterAPI.podToken("ztunnel", pod: "ztunnel-1", uid: ztunnel, node: "n1"),
            "elsewhere": ClusterAPI.podToken("ztunnel", pod: "ztunnel-1", uid: ztunnel, node: "n2"),
            "stale": ClusterAPI.podToken("ztunnel", pod: "ztunnel-1", uid: "another"),
            "unbound": [
                "audiences": ["istio-ca"], "username": "system:serviceaccount:istio-system:ztunnel",
                "groups": ["system:serviceaccounts"],
            ],
            "job": ClusterAPI.podToken("job", pod: "job", uid: impostor),
            "web": ClusterAPI.podToken("web", pod: "web", uid: web, in: "shop"),
            "api-token": [
                "audiences": ["api"], "username": "system:serviceaccount:istio-system:ztunnel",
                "groups": ["system:serviceaccounts"],
            ],
            "user": ["audiences": ["istio-ca"], "username": "admin", "groups": ["system:masters"]],
        ])
        return api
    }

    private func uri(_ pem: String) throws -> String {
        let names = try Certificate(pemEncoded: pem).extensions.subjectAlternativeNames
        for case .uniformResourceIdentifier(let uri) in names ?? SubjectAlternativeNames() { return uri }
        return ""
    }

    private func sign(
        _ server: ControllerServer, token: String, for account: String?, roots: String? = nil
    ) async throws -> [String] {
        let endpoint = try await server.endpoint
        let call = RunningController.Call(
            authorization: ["Bearer \(token)"], csr: try Requests.good(),
            identity: account.map { .init(stringValue: "spiffe://cluster.local/ns/\($0)") })
        return try await RunningController.sign(call, at: endpoint, roots: roots ?? server.rootPEM)
    }

    @Test("R7, R45, R50: two replicas serve with one authority, and one of them writes: conditions, Events, roots")
    func replicas() async throws {
        let api = try await cluster()
        try await api.denyByPath("deny")
        let replicas = ["a", "b"].map { Replica($0, api) }
        var chains: [[String]] = []
        for replica in replicas {
            chains.append(try await sign(replica.serving(), token: "node1", for: "shop/sa/web"))
        }
        // R51: the root last, and the same one.
        #expect(
            try chains.map { try uri($0[0]) } == Array(repeating: "spiffe://cluster.local/ns/shop/sa/web", count: 2))
        #expect(chains[0].last == chains[1].last)
        for namespace in ["shop", "istio-system"] {
            try await eventually("roots in \(namespace)") { try await api.roots(in: namespace) == chains[0].last }
        }
        // R40: a deny rule that layer 4 cannot enforce is told, not passed over.
        try await eventually("the condition") {
            try await api.condition(Conditions.ztunnelAccepted, of: "deny")?["status"]?.string == "False"
        }
        let condition = try #require(try await api.condition(Conditions.ztunnelAccepted, of: "deny"))
        #expect(condition["reason"]?.string == "UnsupportedValue")
        #expect(condition["observedGeneration"]?.integer == 1)
        #expect(condition["lastTransitionTime"]?.string?.hasSuffix("Z") == true)
        try await eventually("the Event") {
            try await api.client.list(.events).items.contains {
                $0["involvedObject"]?["kind"]?.string == "AuthorizationPolicy"
                    && $0["involvedObject"]?["name"]?.string == "deny" && $0["reason"]?.string == "PolicyWeaker"
                    && $0["type"]?.string == "Warning"
            }
        }
        // A new namespace has them, too; whoever changes or deletes them does so in vain.
        try await api.namespace("late")
        try await eventually("roots in late") { try await api.roots(in: "late") == chains[0].last }
        try await api.client.patch(
            .configMaps, RootPublisher.name, .merge(["data": ["root-cert.pem": "none"]]), namespace: "shop")
        try await eventually("roots are put right") { try await api.roots(in: "shop") == chains[0].last }
        try await api.client.delete(.configMaps, RootPublisher.name, namespace: "shop")
        try await eventually("roots are put back") { try await api.roots(in: "shop") == chains[0].last }

        // Written once, by the reporter's own name; nobody made a second authority.
        let writes = api.server.writes
        #expect(
            writes.filter { $0.hasPrefix("istio-ambient-ztunnel-policy patch authorizationpolicies shop/deny status") }
                .count == 1)
        #expect(writes.filter { $0.contains(" create secrets ") }.count == 1)
        for replica in replicas { try await replica.stop() }
    }

    @Test(
        "R47, R48: whose the token is says which identities there are to have",
        arguments: [
            ("node1", "shop/sa/web", "shop/sa/web"), ("node1-named", "shop/sa/web", "shop/sa/web"),
            // A pod of another node.
            ("node1", "shop/sa/db", nil), ("elsewhere", "shop/sa/db", nil), ("elsewhere", "shop/sa/web", nil),
            // A pod of that name from before, or none.
            ("stale", "shop/sa/web", nil), ("unbound", "shop/sa/web", nil),
            // No node's proxy, on the same node.
            ("job", "shop/sa/web", nil),
            // A pod's own token, for itself and for its neighbour.
            ("web", nil, "shop/sa/web"), ("web", "shop/sa/web", nil),
            ("api-token", "shop/sa/web", nil), ("user", nil, nil), ("nonsense", "shop/sa/web", nil),
        ] as [(String, String?, String?)])
    func callers(token: String, asked: String?, given: String?) async throws {
        let (api, replica) = try await Self.shared.get { try await self.cluster() }
        _ = api
        let server = try await replica.serving()
        if let given {
            let chain = try await sign(server, token: token, for: asked)
            #expect(try uri(chain[0]) == "spiffe://cluster.local/ns/\(given)")
        } else {
            let error = await #expect(throws: RPCError.self) { try await sign(server, token: token, for: asked) }
            #expect(error?.code == .unauthenticated)
        }
    }

    /// One cluster for all rows of a table.
    private static let shared = Shared()

    private actor Shared {
        private var value: (ClusterAPI, Replica)?
        func get(_ make: @Sendable () async throws -> ClusterAPI) async throws -> (ClusterAPI, Replica) {
            if let value { return value }
            let api = try await make()
            let made = (api, Replica("a", api))
            value = made
            return made
        }
    }

    @Test("R7: when the leader is cut off, another one writes within the lease's time; serving goes on")
    func leaderAway() async throws {
        let api = try await cluster()
        // Something to serve, from before.
        try await api.denyByPath("early")
        let replicas = ["a", "b"].map { Replica($0, api) }
        for replica in replicas { _ = try await replica.serving() }
        func holder() async throws -> String {
            try await api.client.lease(ClusterControllerSettings.lease, namespace: "istio-system")?.holder ?? ""
        }
        let leader = try await holder()
        try #require(["a", "b"].contains(leader))
        api.away([leader])
        let start = ContinuousClock.now
        try await api.denyByPath("late")
        try await eventually("the other one writes") {
            try await api.condition(Conditions.ztunnelAccepted, of: "late") != nil
        }
        #expect(ContinuousClock.now - start < .seconds(6))
        let other = try await holder()
        #expect(other != leader && !other.isEmpty)
        // What is served from what was known: certificates need the API server's word, discovery does not.
        let cutOff = try #require(replicas.first { $0.name == leader })
        let server = try await cutOff.serving()
        #expect(server.readiness.isReady && !server.discovery.resources.isEmpty)
        let error = await #expect(throws: RPCError.self) { try await sign(server, token: "fresh", for: "shop/sa/web") }
        #expect(error?.code == .unavailable)
        // Back again, it serves and does not write.
        api.away([])
        try await eventually("it knows of the policy") { server.warnings.contains { $0.policy == "shop/late" } }
        #expect(try await holder() == other)
        for replica in replicas { try await replica.stop() }
    }

    @Test("the API server dies and comes back: proxies stay connected, and what changed meanwhile is told and written")
    func restart() async throws {
        let api = try await cluster()
        let replica = Replica("a", api)
        let server = try await replica.serving()
        let store = MeshStore()
        let roots = NSTemporaryDirectory() + "apus-roots-\(UUID().uuidString).pem"
        try server.rootPEM.write(toFile: roots, atomically: true, encoding: .utf8)
        defer { unlink(roots) }
        var settings = DiscoverySettings(
            address: "https://localhost:\(try await server.endpoint.port)", roots: .file(roots),
            token: .text("node1"), node: DiscoveryNode(nodeName: "n1"))
        settings.maximumBackoff = .milliseconds(100)
        let client = try DiscoveryClient(settings, store: store, logger: RunningController.quiet)
        let streams = Task { await client.run() }
        #expect(await client.waitUntilReady(timeout: .seconds(30)))
        #expect(store.snapshot().workload(uid: "Kubernetes//Pod/shop/web") == nil)
        let streamsBefore = server.discovery.clients.map(\.id)

        await api.die()
        try await eventually("the loss is seen") { server.health.problem != nil }
        try await api.revive()
        try await api.client.patch(
            .pods, "web", .merge(["status": ["podIP": "10.0.0.1", "podIPs": [["ip": "10.0.0.1"]]]]),
            namespace: "shop", subresource: "status")
        try await api.denyByPath("late")
        try await eventually("the pod's address is told") {
            store.snapshot().workload(uid: "Kubernetes//Pod/shop/web")?.addresses.first?.description == "10.0.0.1"
        }
        try await eventually("the condition is written") {
            try await api.condition(Conditions.ztunnelAccepted, of: "late") != nil
        }
        // It is the very stream of before.
        #expect(server.discovery.clients.map(\.id) == streamsBefore)
        streams.cancel()
        await streams.value
        try await replica.stop()
    }

    @Test("R50: a new root that is asked for is announced, signs, and takes the old one's place, step by step")
    func rotation() async throws {
        let api = try await cluster()
        let replica = Replica(
            "a", api,
            authority: { settings in
                settings.times.announcement = .seconds(2)
                settings.times.retirement = .seconds(2)
            })
        let server = try await replica.serving()
        let old = server.rootPEM
        try await eventually("the root is published") { try await api.roots(in: "shop") == old }
        try await api.client.patch(
            .secrets, AuthorityStore.ownName,
            .merge(["metadata": ["annotations": [AuthorityStore.rotateAnnotation: "now"]]]), namespace: "istio-system")
        // Announced: both are trusted, in the ConfigMap, too; the old one signs.
        try await eventually("both are published") {
            let roots = try await api.roots(in: "shop") ?? ""
            return roots.hasPrefix(old) && roots != old
        }
        let both = try #require(try await api.roots(in: "shop"))
        let new = String(both.dropFirst(old.count))
        let during = try await sign(server, token: "node1", for: "shop/sa/web", roots: old)
        #expect(during.last == both)
        try await eventually("the new one signs") { try await api.roots(in: "shop")?.hasPrefix(new) == true }
        // Who has either root still gets in, or has both.
        try await eventually("the server shows the new one") {
            do {
                _ = try await sign(server, token: "node1", for: "shop/sa/web", roots: new)
                return true
            } catch is RPCError {
                return false
            }
        }
        try await eventually("the old one is gone") { try await api.roots(in: "shop") == new }
        #expect(server.rootPEM == new)
        let chain = try await sign(server, token: "node1", for: "shop/sa/web", roots: new)
        #expect(chain.count == 2 && chain.last == new)
        // Deleted, the authority is put back and not made anew.
        try await api.client.delete(.secrets, AuthorityStore.ownName, namespace: "istio-system")
        try await eventually("the Secret is back") {
            do throws(KubernetesError) {
                _ = try await api.client.get(.secrets, AuthorityStore.ownName, namespace: "istio-system")
                return true
            } catch {
                return false
            }
        }
        #expect(server.rootPEM == new)
        // A replica that comes later has the same.
        let second = Replica("b", api)
        #expect(try await second.serving().rootPEM == new)
        try await second.stop()
        try await replica.stop()
    }

    @Test("R50: a user's authority is used as it is; one that is wrong is not replaced by another, and waited for")
    func given() async throws {
        let api = try await cluster()
        let made = try AuthorityMaterial.makeParts(trustDomain: "mine", now: Date())
        func secret(_ key: String) -> [String: JSON] {
            let parts = ["ca-cert.pem": made.certificatePEM, "ca-key.pem": key, "root-cert.pem": made.certificatePEM]
            return ["data": .object(parts.mapValues { .string(Data($0.utf8).base64EncodedString()) })]
        }
        try await api.create(.secrets, "cacerts", in: "istio-system", secret("no key"))
        let replica = Replica("a", api)
        try await eventually("somebody leads") {
            try await api.client.lease(ClusterControllerSettings.lease, namespace: "istio-system") != nil
        }
        try await eventually("the problem is known") { replica.controller.problem?.contains("ca-key.pem") == true }
        try await api.client.patch(.secrets, "cacerts", .merge(.object(secret(made.keyPEM))), namespace: "istio-system")
        let server = try await replica.serving()
        #expect(server.rootPEM == made.certificatePEM)
        #expect(replica.controller.problem == nil)
        #expect(!api.server.writes.contains { $0.contains("secrets istio-system/istio-ca-secret") })
        try await replica.stop()
    }

    @Test("kinds that are not installed are none; one that is installed later is followed")
    func missingKinds() async throws {
        let api = try await ClusterAPI()
        let missing = [
            "authorizationpolicies.security.istio.io", "peerauthentications.security.istio.io",
            "serviceentries.networking.istio.io", "workloadentries.networking.istio.io",
            "gateways.gateway.networking.k8s.io", "gatewayclasses.gateway.networking.k8s.io",
        ]
        for kind in missing { api.server.setServes(kind, false) }
        for name in ["shop", "istio-system"] { try await api.namespace(name) }
        let replica = Replica("a", api)
        let server = try await replica.serving()
        for kind in missing { api.server.setServes(kind, true) }
        try await api.denyByPath("late")
        try await eventually("the policy is known") { !server.warnings.isEmpty }
        try await eventually("and told") { try await api.condition(Conditions.ztunnelAccepted, of: "late") != nil }
        try await replica.stop()
    }

    @Test("clocks that are a little ahead or behind do no harm", arguments: [-100.0, 100])
    func skew(seconds: Double) async throws {
        let api = try await cluster()
        let replica = Replica("a", api, now: { Date() + seconds })
        let server = try await replica.serving()
        let chain = try await sign(server, token: "node1", for: "shop/sa/web")
        let leaf = try Certificate(pemEncoded: chain[0])
        #expect(leaf.notValidBefore < Date() && Date() < leaf.notValidAfter)
        try await replica.stop()
    }
}
