import Foundation
import Kubernetes
import ObjectSource
import Synchronization
import TestSupport
import Testing

@testable import TestAPIServer

/// Over the network, with the client that Apus uses, and with what goes wrong on purpose.
@Suite("The server and its faults")
struct ServerTests {
    private func start(_ change: (inout TestAPIServer.Settings) -> Void = { _ in }) async throws -> TestAPIServer {
        var settings = TestAPIServer.Settings()
        settings.bookmarkInterval = .milliseconds(100)
        change(&settings)
        let server = try await TestAPIServer.start(settings)
        server.perform("POST", "/api/v1/namespaces", ["metadata": ["name": "shop"]])
        return server
    }

    private func map(_ name: String) -> JSON { ["metadata": ["name": .string(name)]] }
    private let maps = "/api/v1/namespaces/shop/configmaps"

    /// A watch that writes down what it hears.
    private final class Listener: Sendable {
        private struct Heard {
            var events: [String] = []
            var error: KubernetesError?
        }
        private let heard = Mutex(Heard())
        var events: [String] { heard.withLock { $0.events } }
        var error: KubernetesError? { heard.withLock { $0.error } }
        /// Without bookmarks.
        var changes: [String] { events.filter { !$0.hasPrefix("BOOKMARK") } }

        func listen(_ client: KubernetesClient, from version: String) {
            Task {
                var ending: KubernetesError?
                do throws(KubernetesError) {
                    try await client.watch(
                        .configMaps, ObjectSelection(namespace: "shop"), from: version, limit: .seconds(60)
                    ) { event in
                        let name = event.object["metadata"]?["name"]?.string ?? ""
                        heard.withLock { $0.events.append("\(event.kind.rawValue) \(name)") }
                    }
                } catch {
                    ending = error
                }
                heard.withLock { [ending] heard in
                    heard.error = ending
                    heard.events.append("end")
                }
            }
        }
    }

    private func listening(_ server: TestAPIServer) async throws -> (Listener, KubernetesClient) {
        let client = KubernetesClient(server.clientConfiguration)
        let listener = Listener()
        let open = server.watches
        listener.listen(client, from: String(server.version))
        try await eventually("the watch is open") { server.watches == open + 1 }
        return (listener, client)
    }

    @Test("a watch hears of changes and gets bookmarks; stopped and resumed, the server is as it was")
    func watch() async throws {
        let server = try await start()
        let (listener, client) = try await listening(server)
        try await client.create(.configMaps, map("a"), namespace: "shop")
        server.perform("POST", maps, map("b"))
        try await client.delete(.configMaps, "a", namespace: "shop")
        try await eventually("the events") { listener.changes == ["ADDED a", "ADDED b", "DELETED a"] }
        try await eventually("bookmarks") { listener.events.filter { $0 == "BOOKMARK " }.count > 2 }
        let port = server.port
        await server.stop()
        try await eventually("the watch is cut") { listener.changes.last == "end" }
        await #expect(throws: KubernetesError.self) { try await client.list(.configMaps) }
        try await server.resume()
        #expect(server.port == port)
        let names = try await client.list(.configMaps, ObjectSelection(namespace: "shop")).items
        #expect(names.compactMap { $0["metadata"]?["name"]?.string } == ["b", "kube-root-ca.crt"])
        await client.close()
    }

    @Test("events come twice, late, in the wrong order, or not at all, as a test wants it")
    func events() async throws {
        let server = try await start()
        let (listener, client) = try await listening(server)
        server.setFaults { $0.copies = 2 }
        server.perform("POST", maps, map("a"))
        try await eventually("twice") { listener.changes == ["ADDED a", "ADDED a"] }
        server.setFaults { ($0.copies, $0.reverses) = (1, 2) }
        server.perform("POST", maps, map("b"))
        server.perform("POST", maps, map("c"))
        try await eventually("reversed") { listener.changes.suffix(2) == ["ADDED c", "ADDED b"] }
        server.setFaults { ($0.reverses, $0.eventDelay) = (1, .milliseconds(200)) }
        let start = ContinuousClock.now
        server.perform("POST", maps, map("d"))
        try await eventually("late") { listener.changes.last == "ADDED d" }
        #expect(ContinuousClock.now - start >= .milliseconds(200))
        server.setFaults { ($0.eventDelay, $0.isSilent) = (.zero, true) }
        let before = server.version
        server.perform("POST", maps, map("e"))
        server.setFaults { $0.isSilent = false }
        server.perform("POST", maps, map("f"))
        try await eventually("the next") { listener.changes.last == "ADDED f" }
        #expect(!listener.changes.contains("ADDED e"))
        // Who watches again from before hears of it.
        let second = Listener()
        second.listen(client, from: String(before))
        try await eventually("both") { second.changes == ["ADDED e", "ADDED f"] }
        server.cutWatches()
        try await eventually("cut") { second.changes.last == "end" }
        await client.close()
    }

    @Test("410, at once or as an event, and refusals by path")
    func refusals() async throws {
        let server = try await start()
        let client = KubernetesClient(server.clientConfiguration)
        let version = String(server.version)
        server.perform("POST", maps, map("a"))
        server.compact()
        func told(_ version: String) async -> KubernetesError.Code? {
            let listener = Listener()
            listener.listen(client, from: version)
            try? await eventually("the end") { listener.changes.last == "end" }
            return listener.error?.code
        }
        #expect(await told(version) == .expired)
        server.setFaults { ($0.expiresWatches, $0.expiresByEvent) = (true, true) }
        #expect(await told(String(server.version)) == .expired)
        server.setFaults {
            $0.endsWatchesAtOnce = true
            $0.expiresWatches = false
        }
        #expect(await told(String(server.version)) == nil)
        server.setFaults { $0.refusals = ["/api/v1/namespaces/shop/*": 503] }
        let error = await #expect(throws: KubernetesError.self) {
            try await client.get(.configMaps, "a", namespace: "shop")
        }
        #expect(error?.status == 503)
        _ = try await client.list(.namespaces)
        server.setFaults {
            $0.refusals = [:]
            $0.answerDelay = .milliseconds(150)
        }
        let start = ContinuousClock.now
        _ = try await client.list(.namespaces)
        #expect(ContinuousClock.now - start >= .milliseconds(150))
        await client.close()
    }

    @Test(
        "without a token, with a wrong one, or with one that is not the server's there is no way in; a new authority is believed only by who knows it"
    )
    func credentials() async throws {
        let server = try await start()
        func status(_ change: (inout ClusterConfiguration) -> Void) async -> Int {
            var configuration = server.clientConfiguration
            change(&configuration)
            let client = KubernetesClient(configuration)
            defer { Task { await client.close() } }
            do throws(KubernetesError) {
                _ = try await client.list(.namespaces)
                return 200
            } catch {
                return error.status
            }
        }
        #expect(await status { _ in } == 200)
        #expect(await status { $0.credentials = .none } == 401)
        #expect(await status { $0.credentials = .token("rubbish") } == 401)
        let own = try #require(server.token(namespace: "shop", account: "default"))
        #expect(await status { $0.credentials = .token(own) } == 200)
        let other = try #require(server.token(namespace: "shop", account: "default", audiences: ["istio-ca"]))
        #expect(await status { $0.credentials = .token(other) } == 401)
        server.rotateTokenKey()
        #expect(await status { $0.credentials = .token(own) } == 401)
        let old = server.clientConfiguration.trust
        try server.rotateAuthority()
        #expect(await status { $0.trust = old } == 0)
        #expect(await status { _ in } == 200)
    }

    @Test("a thousand changes by four clients at once: each watch hears of all, in the order of their versions")
    func load() async throws {
        let server = try await start { $0.usesTLS = false }
        let client = KubernetesClient(server.clientConfiguration)
        let versions = Versions()
        let watch = Task {
            // It ends by being cancelled.
            try? await client.watch(
                .configMaps, ObjectSelection(namespace: "shop"), from: String(server.version), limit: .seconds(60)
            ) { event in if event.kind != .bookmark { versions.add(event.object.resourceVersion) } }
        }
        try await eventually("the watch is open") { server.watches == 1 }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<4 {
                group.addTask {
                    for index in 0..<250 {
                        try await client.create(.configMaps, self.map("w\(writer)-\(index)"), namespace: "shop")
                    }
                }
            }
            try await group.waitForAll()
        }
        try await eventually("all of them") { versions.list.count == 1000 }
        let list = versions.list
        #expect(list == list.sorted() && Set(list).count == 1000)
        watch.cancel()
        await client.close()
    }

    private final class Versions: Sendable {
        private let all = Mutex<[Int]>([])
        var list: [Int] { all.withLock { $0 } }
        func add(_ version: String) { all.withLock { $0.append(Int(version) ?? 0) } }
    }
}
