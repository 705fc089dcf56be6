import Foundation
import Logging
import ObjectSource
import Synchronization
import TestSupport
import Testing

@testable import Kubernetes

@Suite("A candidate")
struct CandidacyTests {
    private let start = ContinuousClock.now

    private func candidate(_ name: String) -> Candidacy {
        Candidacy(identity: name, namespace: "n", name: "l", duration: .seconds(15))
    }

    private func lease(_ holder: String, _ version: String, renewed: Double = 0) -> Lease {
        Lease(
            namespace: "n", name: "l", holder: holder, duration: .seconds(15), acquired: 0, renewed: renewed,
            transitions: 3, version: version)
    }

    @Test("a lease that is not there is made, one that is let go of is taken, one's own is renewed")
    func free() {
        var me = candidate("me")
        me.observe(nil, at: start)
        let made = me.claim(at: start, time: 100)
        #expect(made?.holder == "me" && made?.version == "" && made?.acquired == 100)
        me.observe(lease("", "5"), at: start)
        let taken = me.claim(at: start, time: 100)
        #expect(taken?.holder == "me" && taken?.version == "5" && taken?.transitions == 4)
        me.observe(lease("me", "6"), at: start)
        let kept = me.claim(at: start + .seconds(100), time: 200)
        #expect(kept?.acquired == 0 && kept?.renewed == 200 && kept?.transitions == 3)
        #expect(me.release(time: 1)?.holder == "")
    }

    @Test("somebody else's is taken when it has not changed for its time, by one's own clock")
    func expiry() {
        var me = candidate("me")
        // By the other's clock it ran out long ago, or will in a year: neither counts.
        for renewed in [0.0, 4_000_000_000] {
            me = candidate("me")
            me.observe(lease("you", "5", renewed: renewed), at: start)
            #expect(me.claim(at: start, time: 2_000_000_000) == nil)
            #expect(me.claim(at: start + .milliseconds(14_999), time: 2_000_000_000) == nil)
            #expect(me.claim(at: start + .seconds(15), time: 2_000_000_000)?.holder == "me")
        }
        // Seen to change, it begins anew; seen again, it does not.
        me.observe(lease("you", "6"), at: start + .seconds(14))
        #expect(me.claim(at: start + .seconds(28), time: 0) == nil)
        me.observe(lease("you", "6"), at: start + .seconds(28))
        #expect(me.claim(at: start + .seconds(29), time: 0)?.holder == "me")
        #expect(me.release(time: 0) == nil && me.holder == "you")
    }
}

/// A server that keeps one lease, with optimistic locking, and may be away for some.
private final class LeaseKeeper: Sendable {
    private struct State {
        var version = 0
        var lease: JSON?
        var isAway: Set<String> = []
    }
    private let state = Mutex(State())

    /// Those who show these tokens get no answer.
    func setAway(_ tokens: Set<String>) { state.withLock { $0.isAway = tokens } }

    func handle(_ call: ScriptedServer.Call) {
        state.withLock { state in
            if state.isAway.contains(where: { call.headers["Authorization"].first == "Bearer \($0)" }) { return }
            guard call.method != "GET" else {
                guard let lease = state.lease else { return call.answer(404, FakeCluster.status(404, "NotFound")) }
                return call.answer(200, String(decoding: lease.bytes, as: UTF8.self))
            }
            guard let sent = try? DocumentTree(json: call.body).root, case .object(var object) = JSON(sent),
                case .object(var metadata)? = object["metadata"]
            else { return call.answer(400, FakeCluster.status(400, "BadRequest")) }
            let isStale =
                call.method == "POST" ? state.lease != nil : sent.resourceVersion != String(state.version)
            if isStale { return call.answer(409, FakeCluster.status(409, "Conflict")) }
            state.version += 1
            metadata["resourceVersion"] = .string(String(state.version))
            object["metadata"] = .object(metadata)
            state.lease = .object(object)
            call.answer(200, String(decoding: JSON.object(object).bytes, as: UTF8.self))
        }
    }
}

@Suite("Leaders", .serialized)
struct LeaderElectionTests {
    /// Who leads, and whether ever more than one did.
    private final class Watch: Sendable {
        private let state = Mutex((now: Set<String>(), most: 0, terms: 0))

        var now: Set<String> { state.withLock { $0.now } }
        var most: Int { state.withLock { $0.most } }
        var terms: Int { state.withLock { $0.terms } }

        func lead(_ name: String) async {
            state.withLock {
                $0.now.insert(name)
                $0.most = max($0.most, $0.now.count)
                $0.terms += 1
            }
            // Nothing ever comes but the end of the task.
            let (nothing, source) = AsyncStream.makeStream(of: Never.self)
            for await _ in nothing {}
            source.finish()
            state.withLock { _ = $0.now.remove(name) }
        }
    }

    private func candidate(_ name: String, _ server: ScriptedServer, _ watch: Watch) -> Task<Void, Never> {
        var limits = ClientSettings()
        limits.requestTimeout = .seconds(1)
        let client = KubernetesClient(
            ClusterConfiguration(server: "http://127.0.0.1:\(server.port)", credentials: .token(name)),
            settings: limits)
        var settings = LeaderElection.Settings()
        settings.duration = .seconds(2)
        settings.renewal = .seconds(1)
        settings.period = .milliseconds(50)
        let election = LeaderElection(
            client, namespace: "n", name: "l", identity: name, settings: settings,
            log: Logger(label: "t") { _ in SwiftLogNoOpLogHandler() })
        return Task {
            await election.run { await watch.lead(name) }
            await client.close()
        }
    }

    @Test("one of three leads; when it ends the next one does at once, and never are there two")
    func handOver() async throws {
        let keeper = LeaseKeeper()
        let server = try await ScriptedServer { keeper.handle($0) }
        let watch = Watch()
        var candidates = Dictionary(uniqueKeysWithValues: ["a", "b", "c"].map { ($0, candidate($0, server, watch)) })
        for left in stride(from: 3, through: 1, by: -1) {
            try await eventually("a leader, with \(left) candidates") { watch.now.count == 1 }
            let leader = try #require(watch.now.first)
            let ended = candidates.removeValue(forKey: leader)
            let task = try #require(ended)
            task.cancel()
            let start = ContinuousClock.now
            await task.value
            if left > 1 {
                try await eventually("the next") { watch.now.count == 1 }
                #expect(ContinuousClock.now - start < .seconds(1), "it need not wait for the lease to run out")
            }
        }
        #expect(watch.most == 1 && watch.terms == 3 && watch.now.isEmpty)
        await server.stop()
    }

    @Test("a leader that does not reach the server stops leading before another one begins, and is a candidate again")
    func cutOff() async throws {
        let keeper = LeaseKeeper()
        let server = try await ScriptedServer { keeper.handle($0) }
        let watch = Watch()
        let first = candidate("a", server, watch)
        try await eventually("a leads") { watch.now == ["a"] }
        let second = candidate("b", server, watch)
        keeper.setAway(["a"])
        try await eventually("nobody leads") { watch.now.isEmpty }
        try await eventually("b leads") { watch.now == ["b"] }
        keeper.setAway(["b"])
        try await eventually("a leads again") { watch.now == ["a"] }
        // All of them cut off: nobody leads, and afterwards somebody does.
        keeper.setAway(["a", "b"])
        try await eventually("nobody leads") { watch.now.isEmpty }
        keeper.setAway([])
        try await eventually("somebody leads") { watch.now.count == 1 }
        #expect(watch.most == 1)
        first.cancel()
        second.cancel()
        await first.value
        await second.value
        await server.stop()
    }
}
