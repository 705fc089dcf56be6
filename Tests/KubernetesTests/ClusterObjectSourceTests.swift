import Logging
import ObjectSource
import TestSupport
import Testing

@testable import Kubernetes

private struct Limits {
    var client = ClientSettings()
    var reflector = ReflectorSettings()

    /// Short ones, changed as the test wants.
    static func make(_ change: (inout Limits) -> Void) -> Limits {
        var limits = Limits()
        limits.client.requestTimeout = .seconds(5)
        limits.reflector.shortestPause = .milliseconds(10)
        limits.reflector.longestPause = .milliseconds(100)
        change(&limits)
        return limits
    }
}

/// A source over a server with faults.
private struct Rig {
    let cluster = FakeCluster()
    let server: ScriptedServer
    let source: ClusterObjectSource
    let client: KubernetesClient

    init(
        _ kinds: [ObjectKind] = [.pod], credentials: ClusterConfiguration.Credentials = .none,
        limits: Limits = .make { _ in }, before: (FakeCluster) -> Void
    ) async throws {
        let cluster = cluster
        before(cluster)
        server = try await ScriptedServer { cluster.handle($0) }
        client = KubernetesClient(
            ClusterConfiguration(server: "http://127.0.0.1:\(server.port)", credentials: credentials),
            settings: limits.client)
        source = ClusterObjectSource(
            client, kinds.map { .init($0) }, settings: limits.reflector,
            log: Logger(label: "t") { _ in SwiftLogNoOpLogHandler() })
    }

    var pods: [String: String] {
        var result: [String: String] = [:]
        for (name, pod) in source.snapshot().pods { result[name.name] = pod.metadata.labels["v"] }
        return result
    }

    func end() async {
        source.close()
        await client.close()
        await server.stop()
    }
}

@Suite("Objects of a cluster")
struct ClusterObjectSourceTests {
    @Test("a list in pages, then changes as they come")
    func follows() async throws {
        let rig = try await Rig(limits: .make { $0.client.pageSize = 3 }) { cluster in
            for index in 0..<10 { cluster.put("p\(index)", label: "old") }
        }
        #expect(await rig.source.waitUntilSynced())
        #expect(rig.pods.count == 10)
        #expect(rig.cluster.count("list") == 4)
        rig.cluster.put("p1", label: "new")
        rig.cluster.delete("p2")
        rig.cluster.put("p10", label: "new")
        try await eventually("changes") { rig.pods["p1"] == "new" && rig.pods["p2"] == nil && rig.pods["p10"] == "new" }
        #expect(rig.source.health.problem == nil && rig.source.health.isSynced)
        #expect(rig.cluster.count("list") == 4)
        await rig.end()
    }

    @Test("nothing is told before every kind has been read; a kind that the server does not have holds nobody up")
    func whole() async throws {
        let rig = try await Rig([.pod, .namespace, .peerAuthentication]) { cluster in
            cluster.put("p")
            cluster.set {
                $0.refusals = [
                    FakeCluster.namespaces: 403, FakeCluster.peerAuthentications: 404,
                    FakeCluster.olderPeerAuthentications: 404,
                ]
            }
        }
        try await eventually("a refusal") { rig.source.health.problem != nil }
        #expect(rig.source.health.problem?.contains("the right to list namespaces") == true)
        #expect(!rig.source.health.isSynced)
        #expect(rig.source.snapshot().objectCount == 0)
        rig.cluster.putNamespace("shop")
        rig.cluster.set { $0.refusals[FakeCluster.namespaces] = nil }
        #expect(await rig.source.waitUntilSynced())
        #expect(rig.source.snapshot().pods.count == 1 && rig.source.snapshot().namespaces.count == 1)
        try await eventually("no problem") { rig.source.health.problem == nil }
        await rig.end()
    }

    @Test("an older version of a kind is read where the server has no newer")
    func olderVersion() async throws {
        let rig = try await Rig([.peerAuthentication]) { cluster in
            cluster.put("default", at: FakeCluster.olderPeerAuthentications)
            cluster.set { $0.refusals = [FakeCluster.peerAuthentications: 404] }
        }
        #expect(await rig.source.waitUntilSynced())
        #expect(rig.source.snapshot().peerAuthentications.count == 1)
        rig.cluster.put("second", at: FakeCluster.olderPeerAuthentications)
        try await eventually("it is watched") { rig.source.snapshot().peerAuthentications.count == 2 }
        await rig.end()
    }

    @Test("a kind that a server denies for a while keeps its objects; one that stays away loses them")
    func deniedKind() async throws {
        let rig = try await Rig(
            [.peerAuthentication],
            limits: .make {
                $0.reflector.missingKindGrace = .seconds(1)
                $0.reflector.missingKindInterval = .milliseconds(50)
            }
        ) { $0.put("default", at: FakeCluster.peerAuthentications) }
        #expect(await rig.source.waitUntilSynced())
        rig.cluster.set {
            $0.refusals = [FakeCluster.peerAuthentications: 404, FakeCluster.olderPeerAuthentications: 404]
        }
        rig.cluster.cutWatches()
        try await eventually("it is noticed") { rig.source.health.problem != nil }
        #expect(rig.source.snapshot().peerAuthentications.count == 1)
        try await eventually("it is believed") { rig.source.snapshot().peerAuthentications.isEmpty }
        #expect(rig.source.health.problem == nil)
        rig.cluster.set { $0.refusals = [:] }
        try await eventually("it is back") { rig.source.snapshot().peerAuthentications.count == 1 }
        await rig.end()
    }

    @Test("while a server is away what was known stands, and what happened meanwhile is heard afterwards")
    func restart() async throws {
        let rig = try await Rig {
            $0.put("a", label: "1")
            $0.put("b", label: "1")
        }
        #expect(await rig.source.waitUntilSynced())
        let lists = rig.cluster.count("list")
        let port = rig.server.port
        await rig.server.stop()
        rig.cluster.cutWatches()
        try await eventually("it is noticed") { rig.source.health.problem != nil }
        #expect(rig.pods == ["a": "1", "b": "1"])
        #expect(rig.source.health.lastContact != nil && rig.source.health.isSynced)
        rig.cluster.put("a", label: "2")
        rig.cluster.delete("b")
        let cluster = rig.cluster
        let second = try await ScriptedServer(port: port) { cluster.handle($0) }
        try await eventually("the changes") { rig.pods == ["a": "2"] }
        try await eventually("no problem") { rig.source.health.problem == nil }
        #expect(rig.cluster.count("list") == lists, "the watch goes on where it was")
        await rig.end()
        await second.stop()
    }

    @Test(
        "a version that is no longer kept leads to a new list without a moment of false ends", arguments: [false, true])
    func expired(byEvent: Bool) async throws {
        let rig = try await Rig { cluster in for index in 0..<20 { cluster.put("p\(index)", label: "1") } }
        #expect(await rig.source.waitUntilSynced())
        let stream = rig.source.snapshots()
        let smallest = Task {
            var least = Int.max
            for await snapshot in stream { least = min(least, snapshot.pods.count) }
            return least
        }
        rig.cluster.set {
            $0.losesEvents = true
            $0.pageSize = 4
        }
        rig.cluster.delete("p0")
        rig.cluster.put("p1", label: "2")
        let version = rig.cluster.version
        rig.cluster.set {
            $0.compactedTo = version
            $0.refusesByEvent = byEvent
            $0.losesEvents = false
        }
        rig.cluster.cutWatches()
        try await eventually("the new list") { rig.pods["p1"] == "2" && rig.pods.count == 19 }
        rig.cluster.put("p2", label: "3")
        try await eventually("the new watch") { rig.pods["p2"] == "3" }
        await rig.end()
        #expect(await smallest.value == 19)
    }

    @Test("versions that are never kept, again and again: asked for with growing pauses, and right in the end")
    func expiredInALoop() async throws {
        let rig = try await Rig {
            $0.put("a", label: "1")
            $0.set { $0.compactedTo = .max }
        }
        #expect(await rig.source.waitUntilSynced())
        let before = ContinuousClock.now
        let watches = rig.cluster.count("watch")
        try await eventually("a loop") { rig.cluster.count("watch") >= watches + 6 }
        #expect(ContinuousClock.now - before > .milliseconds(100), "there are pauses")
        rig.cluster.put("a", label: "2")
        try await eventually("the list has it") { rig.pods["a"] == "2" }
        rig.cluster.set { $0.compactedTo = 0 }
        rig.cluster.put("b", label: "1")
        try await eventually("it is well again") { rig.pods["b"] == "1" && rig.source.health.problem == nil }
        await rig.end()
    }

    @Test("pages whose token is no longer good: the list begins again")
    func expiredPage() async throws {
        let rig = try await Rig(limits: .make { $0.client.pageSize = 2 }) { cluster in
            for index in 0..<5 { cluster.put("p\(index)") }
            cluster.set { $0.expiresTokens = true }
        }
        try await eventually("it tries") { rig.cluster.count("list") > 4 }
        #expect(!rig.source.health.isSynced)
        rig.cluster.set { $0.expiresTokens = false }
        #expect(await rig.source.waitUntilSynced())
        #expect(rig.pods.count == 5)
        await rig.end()
    }

    @Test("events that come twice, late or out of order end in the right state")
    func disorder() async throws {
        let rig = try await Rig {
            $0.put("a", label: "0")
            $0.set { $0.copies = 3 }
        }
        #expect(await rig.source.waitUntilSynced())
        try await eventually("a watch") { rig.cluster.watchers == 1 }
        for index in 1...50 {
            rig.cluster.put("a", label: "\(index)")
            if index % 10 == 0 { rig.cluster.delete("a") }
        }
        rig.cluster.put("a", label: "last")
        let version = rig.cluster.version
        rig.cluster.tell("MODIFIED", FakeCluster.pod("a", version: version - 5, label: "late"))
        rig.cluster.tell("DELETED", FakeCluster.pod("a", version: version - 3))
        rig.cluster.tell("ADDED", FakeCluster.pod("b", version: version + 2, label: "b"))
        rig.cluster.tell("MODIFIED", FakeCluster.pod("c", version: version + 1, label: "c"))
        try await eventually("all of it") { rig.pods == ["a": "last", "b": "b", "c": "c"] }
        await rig.end()
    }

    @Test("events that were lost are made up for by the list that is read now and then")
    func lost() async throws {
        let rig = try await Rig(
            limits: .make {
                $0.reflector.relistInterval = .milliseconds(100)
                $0.reflector.watchTime = .milliseconds(50)
            }
        ) {
            $0.put("a", label: "1")
            $0.put("b", label: "1")
        }
        #expect(await rig.source.waitUntilSynced())
        rig.cluster.set { $0.losesEvents = true }
        rig.cluster.put("a", label: "2")
        rig.cluster.delete("b")
        try await eventually("the end of watches leads to a list") {
            rig.cluster.cutWatches()
            return rig.pods == ["a": "2"]
        }
        await rig.end()
    }

    @Test("a watch that says nothing is given up, and a new one hears what was missed")
    func silence() async throws {
        let rig = try await Rig(limits: .make { $0.client.watchSilence = .milliseconds(200) }) {
            $0.put("a", label: "1")
        }
        #expect(await rig.source.waitUntilSynced())
        rig.cluster.set { $0.isSilent = true }
        try await eventually("a watch") { rig.cluster.count("watch") >= 1 }
        rig.cluster.put("a", label: "2")
        rig.cluster.set { $0.isSilent = false }
        try await eventually("what was missed") { rig.pods["a"] == "2" }
        await rig.end()
    }

    @Test("a slow watch, whose events come in pieces and break off in the middle of one")
    func slowWatch() async throws {
        let rig = try await Rig { $0.put("a", label: "0") }
        #expect(await rig.source.waitUntilSynced())
        try await eventually("a watch") { rig.cluster.watchers == 1 }
        let version = rig.cluster.version
        try await rig.cluster.drip("MODIFIED", FakeCluster.pod("a", version: version + 1, label: "1"), pieces: 40)
        try await eventually("whole") { rig.pods["a"] == "1" }
        let watches = rig.cluster.count("watch")
        rig.cluster.put("a", label: "2")
        rig.cluster.put("a", label: "3")
        let half = String(FakeCluster.pod("b", version: version + 9).prefix(40))
        rig.cluster.tell("ADDED", half)
        rig.cluster.cutWatches()
        try await eventually("a new watch") { rig.cluster.count("watch") > watches }
        try await eventually("the state is right") { rig.pods == ["a": "3"] }
        await rig.end()
    }

    @Test("a server that ends every watch at once is not asked without pause")
    func shortWatches() async throws {
        let rig = try await Rig {
            $0.put("a")
            $0.set { $0.endsAtOnce = true }
        }
        #expect(await rig.source.waitUntilSynced())
        let start = ContinuousClock.now
        let before = rig.cluster.count("watch")
        try await eventually("some watches") { rig.cluster.count("watch") >= before + 8 }
        #expect(ContinuousClock.now - start > .milliseconds(200))
        rig.cluster.set { $0.endsAtOnce = false }
        rig.cluster.put("b")
        try await eventually("it goes on") { rig.pods.count == 2 }
        await rig.end()
    }

    @Test("a token that has expired is read again; what was known stands until it is good")
    func expiredToken() async throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("token", "one\n")
        let rig = try await Rig(credentials: .tokenFile(path)) {
            $0.put("a", label: "1")
            $0.set { $0.token = "one" }
        }
        #expect(await rig.source.waitUntilSynced())
        rig.cluster.set { $0.token = "two" }
        rig.cluster.cutWatches()
        try await eventually("it is refused") { rig.source.health.problem?.contains("expired") == true }
        #expect(rig.pods == ["a": "1"])
        rig.cluster.put("a", label: "2")
        try folder.write("token", "two\n")
        try await eventually("it is let in") { rig.pods["a"] == "2" && rig.source.health.problem == nil }
        await rig.end()
    }

    @Test("readers hear of changes one after the other, and all end with the source")
    func readers() async throws {
        let rig = try await Rig { $0.put("a", label: "0") }
        #expect(await rig.source.waitUntilSynced())
        let readers = (0..<3).map { _ in
            let stream = rig.source.snapshots()
            return Task {
                var versions: [UInt64] = []
                for await snapshot in stream { versions.append(snapshot.version) }
                return versions
            }
        }
        for index in 1...100 { rig.cluster.put("a", label: "\(index)") }
        try await eventually("the last") { rig.pods["a"] == "100" }
        let last = rig.source.snapshot().version
        await rig.end()
        for reader in readers {
            let versions = await reader.value
            #expect(versions == versions.sorted())
            #expect((versions.last ?? 0) <= last)
        }
    }
}
