import Addressing
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Identity
import IstioAPI
import Logging
import Mesh
import Synchronization
import Testing

@testable import Discovery

/// A discovery server on loopback, with a certificate of its own authority.
final class TestControlPlane: Sendable {
    let discovery: DiscoveryServer
    let port: Int
    private let server: GRPCServer<HTTP2ServerTransport.Posix>
    private let task: Task<Void, any Error>

    init(_ authority: EmbeddedCA, port: Int = 0, token: String = "good") async throws {
        var logger = Logger(label: "test.server")
        logger.logLevel = .critical
        discovery = DiscoveryServer(logger: logger)
        let certificate = try authority.serverCertificate(
            names: ["localhost"], addresses: [.loopbackV4], now: Date())
        let listener = ListenerGuard(logger: logger)
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: port),
            transportSecurity: .tls(
                certificateChain: [.bytes(Array(certificate.chainPEM.utf8), format: .pem)],
                privateKey: .bytes(Array(certificate.privateKeyPEM.utf8), format: .pem)),
            config: .defaults { listener.install(in: &$0) })
        let server = GRPCServer(
            transport: transport,
            services: [
                DiscoveryService(discovery) { metadata in
                    guard metadata[stringValues: "authorization"].contains(where: { $0 == "Bearer \(token)" }) else {
                        throw RPCError(code: .unauthenticated, message: "no")
                    }
                    return "node"
                }
            ])
        self.server = server
        task = Task { try await listener.run { try await server.serve() } }
        self.port = try await transport.listeningAddress.ipv4?.port ?? 0
    }

    func stop() async {
        task.cancel()
        // How it ends is of no interest; that it has does matter.
        _ = await task.result
    }
}

@Suite("Client and server over TLS on loopback", .timeLimit(.minutes(3)))
struct LoopbackTests {
    let folder: String
    let authority: EmbeddedCA
    let store = MeshStore()

    init() throws {
        folder = NSTemporaryDirectory() + "apus-discovery-\(UUID().uuidString)"
        authority = try EmbeddedCA(directory: folder, trustDomain: "cluster.local", now: Date())
        try "good\n".write(toFile: folder + "/token", atomically: true, encoding: .utf8)
    }

    private func client(
        _ port: Int, onDemand: Bool = false, onEvent: @escaping @Sendable (DiscoveryClient.Event) -> Void = { _ in }
    ) throws -> DiscoveryClient {
        var settings = DiscoverySettings(
            address: "https://localhost:\(port)", roots: .file(folder + "/root-cert.pem"),
            token: .file(folder + "/token"), node: DiscoveryNode(nodeName: "n1"))
        settings.maximumBackoff = .milliseconds(100)
        settings.isOnDemand = onDemand
        var logger = Logger(label: "test.client")
        logger.logLevel = .critical
        return try DiscoveryClient(settings, store: store, logger: logger, onEvent: onEvent)
    }

    /// Runs the client while the body does something.
    private func with(_ client: DiscoveryClient, _ body: () async throws -> Void) async throws {
        let task = Task { await client.run() }
        do {
            try await body()
        } catch {
            task.cancel()
            await task.value
            throw error
        }
        task.cancel()
        await task.value
    }

    private func eventually(
        _ condition: @escaping @Sendable (MeshState) -> Bool, sourceLocation: SourceLocation = #_sourceLocation
    ) async {
        let signal = ChangeSignal()
        let observation = store.onChange { _ in signal.notify() }
        let held = await signal.wait(timeout: .seconds(30)) { [store] in condition(store.snapshot()) }
        observation.end()
        #expect(held, sourceLocation: sourceLocation)
    }

    private func workload(_ name: String) -> @Sendable (MeshState) -> Workload? {
        { $0.workload(uid: "Kubernetes//Pod/shop/\(name)") }
    }

    @Test("the store follows what is published, and the server knows when it has")
    func follow() async throws {
        let plane = try await TestControlPlane(authority)
        let policy = AuthorizationPolicy(name: "p", namespace: "shop", scope: .namespace, action: .deny)
        try plane.discovery.publish([
            Samples.workload("a", services: ["web"]), Samples.service("web", address: 1), .policy(policy),
        ])
        let client = try client(plane.port)
        let (a, b) = (workload("a"), workload("b"))
        try await with(client) {
            #expect(await client.waitUntilReady(timeout: .seconds(30)))
            #expect(client.isConnected)
            #expect(client.lastError == nil)
            #expect(a(store.snapshot()) != nil)
            #expect(store.snapshot().serviceCount == 1)

            let mark = try plane.discovery.publish([Samples.workload("b", address: 2)])
            #expect(await plane.discovery.waitUntilAcked(mark, timeout: .seconds(30)) == [])
            // Acknowledged means in force.
            #expect(a(store.snapshot()) == nil)
            #expect(b(store.snapshot()) != nil)
            #expect(store.snapshot().serviceCount == 0)
            #expect(plane.discovery.clients.map(\.name) == ["node"])
            #expect(plane.discovery.clients.first?.nodeID.hasPrefix("ztunnel~") == true)
        }
        await plane.stop()
    }

    @Test("a mesh that is larger than gRPC's own limit of 4 MiB a message comes in")
    func largeMesh() async throws {
        let plane = try await TestControlPlane(authority)
        let filling = String(repeating: "r", count: 1000)
        try plane.discovery.publish((0..<5000).map { Samples.workload("w\($0)", revision: filling) })
        let client = try client(plane.port)
        try await with(client) {
            #expect(await client.waitUntilReady(timeout: .seconds(60)))
            #expect(store.snapshot().workloadCount == 5000)
        }
        await plane.stop()
    }

    @Test("after a restart of the server only what has changed is sent; the state stays in force meanwhile")
    func reconnect() async throws {
        let plane = try await TestControlPlane(authority)
        let resources = (1...50).map { Samples.workload("w\($0)", address: UInt8($0)) }
        try plane.discovery.publish(resources)
        let ended = ChangeSignal()
        let client = try client(plane.port) { if case .terminated = $0 { ended.notify() } }
        let (first, second, new) = (workload("w1"), workload("w2"), workload("new"))
        try await with(client) {
            #expect(await client.waitUntilReady(timeout: .seconds(30)))
            let port = plane.port
            await plane.stop()
            #expect(await ended.wait(timeout: .seconds(30)) { !client.isConnected })
            #expect(client.isReady)
            #expect(second(store.snapshot()) != nil)

            let next = try await TestControlPlane(authority, port: port)
            try next.discovery.publish(Array(resources.dropFirst()) + [Samples.workload("new", address: 99)])
            await eventually { new($0) != nil && first($0) == nil && second($0) != nil }
            #expect(next.discovery.counts.resourcesSent == 1)
            await next.stop()
        }
    }

    @Test(
        "on demand: what runs on the node comes unasked, the rest when it is asked for, and follows changes after that")
    func onDemand() async throws {
        let plane = try await TestControlPlane(authority)
        func published(_ revision: String) -> [MeshResource] {
            [
                Samples.workload("own", address: 1),
                Samples.workload("far", address: 2, node: "n2", revision: revision),
                Samples.workload("end", address: 3, node: "n2", services: ["web"]), Samples.service("web", address: 9),
                Samples.workload("other", address: 4, node: "n2"),
            ]
        }
        try plane.discovery.publish(published("1"))
        let ended = ChangeSignal()
        let client = try client(plane.port, onDemand: true) { if case .terminated = $0 { ended.notify() } }
        let (own, far, end, other) = (workload("own"), workload("far"), workload("end"), workload("other"))
        func ask(_ name: MeshName) async {
            let (answers, answer) = AsyncStream.makeStream(of: Void.self)
            client.ask(for: name) { answer.finish() }
            for await _ in answers {}
        }
        func address(_ parts: (UInt8, UInt8, UInt8, UInt8)) -> MeshName {
            .address(NetworkAddress(address: IPAddress(parts.0, parts.1, parts.2, parts.3)))
        }
        try await with(client) {
            #expect(await client.waitUntilReady(timeout: .seconds(30)))
            #expect(own(store.snapshot()) != nil && far(store.snapshot()) == nil && end(store.snapshot()) == nil)

            await ask(address((10, 0, 0, 2)))
            #expect(far(store.snapshot()) != nil && end(store.snapshot()) == nil)
            // With its endpoints.
            await ask(address((10, 96, 0, 9)))
            #expect(store.snapshot().knows(.host(NamespacedHostname(namespace: "shop", hostname: "web"))))
            #expect(end(store.snapshot()) != nil)
            // Nothing is an answer as well, and a second time no question.
            let nothing = address((192, 0, 2, 1))
            for _ in 0..<2 { await ask(nothing) }
            #expect(!store.snapshot().knows(nothing))

            try plane.discovery.publish(published("2"))
            await eventually { far($0)?.canonicalRevision == "2" }

            let port = plane.port
            await plane.stop()
            #expect(await ended.wait(timeout: .seconds(30)) { !client.isConnected })
            // Asked for while there is nobody to ask.
            async let late: Void = ask(address((10, 0, 0, 4)))
            let next = try await TestControlPlane(authority, port: port)
            try next.discovery.publish(published("3"))
            await late
            await eventually { far($0)?.canonicalRevision == "3" && other($0) != nil }
            await next.stop()
        }
    }

    @Test("a resource that cannot be taken is refused; the others count, and a repaired one is taken")
    func refusal() async throws {
        let plane = try await TestControlPlane(authority)
        // Fine for the server, not for a client: a gateway port is checked, a service without a name is not one.
        let nameless = MeshResource.service(Service(name: "x", namespace: "shop", hostname: ""))
        try plane.discovery.publish([Samples.workload("a"), nameless])
        let client = try client(plane.port)
        let a = workload("a")
        try await with(client) {
            await eventually { a($0) != nil }
            let mark = plane.discovery.mark
            #expect(await plane.discovery.waitUntilAcked(mark, timeout: .milliseconds(300)) == ["node"])
            #expect(plane.discovery.counts.refusals == 1)
            #expect(!client.isReady)
            try plane.discovery.publish([Samples.workload("a"), Samples.service("x", address: 3)])
            #expect(await client.waitUntilReady(timeout: .seconds(30)))
            #expect(await plane.discovery.waitUntilAcked(plane.discovery.mark, timeout: .seconds(30)) == [])
        }
        await plane.stop()
    }

    @Test("a missing or wrong token is refused; once the file is right, the next attempt is welcome")
    func tokens() async throws {
        let plane = try await TestControlPlane(authority)
        try plane.discovery.publish([Samples.workload("a")])
        try FileManager.default.removeItem(atPath: folder + "/token")
        let ended = ChangeSignal()
        let client = try client(plane.port) { if case .terminated = $0 { ended.notify() } }
        try await with(client) {
            #expect(await ended.wait(timeout: .seconds(30)) { client.lastError?.code == .tokenUnreadable })
            try " \n".write(toFile: folder + "/token", atomically: true, encoding: .utf8)
            #expect(await ended.wait(timeout: .seconds(30)) { client.lastError?.code == .tokenMissing })
            try "bad".write(toFile: folder + "/token", atomically: true, encoding: .utf8)
            #expect(await ended.wait(timeout: .seconds(30)) { client.lastError?.code == .refused })
            #expect(!client.isReady)
            #expect(plane.discovery.clients.isEmpty)
            try "good\n".write(toFile: folder + "/token", atomically: true, encoding: .utf8)
            #expect(await client.waitUntilReady(timeout: .seconds(30)))
        }
        await plane.stop()
    }

    @Test("a server that the roots do not vouch for is not spoken to; a new root file is taken up")
    func roots() async throws {
        let other = try EmbeddedCA(directory: folder + "/other", trustDomain: "cluster.local", now: Date())
        let plane = try await TestControlPlane(other)
        try plane.discovery.publish([Samples.workload("a")])
        let ended = ChangeSignal()
        let client = try client(plane.port) { if case .terminated = $0 { ended.notify() } }
        try await with(client) {
            #expect(await ended.wait(timeout: .seconds(30)) { client.lastError?.code == .unreachable })
            #expect(!client.isReady)
            try (authority.rootPEM + other.rootPEM).write(
                toFile: folder + "/root-cert.pem", atomically: true, encoding: .utf8)
            #expect(await client.waitUntilReady(timeout: .seconds(30)))
        }
        await plane.stop()
    }

    @Test("waiting for acknowledgements ends with the time, and does not wait for who is gone")
    func waiting() async throws {
        let server = DiscoveryServer(logger: Logger(label: "test"))
        let mark = try server.publish([Samples.workload("a")])
        #expect(await server.waitUntilAcked(mark, timeout: .seconds(30)) == [])
    }
}
