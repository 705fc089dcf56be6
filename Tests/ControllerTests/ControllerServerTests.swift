import Addressing
import Discovery
import Foundation
import Handover
import LinuxNetwork
import Mesh
import NIOCore
import NIOPosix
import NIOSSL
import ObjectSource
import Observability
import TestSupport
import Testing

@testable import Controller
@testable import Identity

@Suite("The controller as a whole", .timeLimit(.minutes(3)))
struct ControllerServerTests {
    private func client(
        _ controller: RunningController, _ store: MeshStore, token: String, serverName: String? = nil,
        ended: ChangeSignal = ChangeSignal()
    ) throws -> DiscoveryClient {
        var settings = DiscoverySettings(
            address: serverName == nil ? "https://localhost:\(controller.endpoint.port)" : controller.address,
            serverName: serverName, roots: .file(controller.state + "/root-cert.pem"), token: .text(token),
            node: DiscoveryNode(nodeName: "n1"))
        settings.maximumBackoff = .milliseconds(100)
        return try DiscoveryClient(settings, store: store, logger: RunningController.quiet) { event in
            if case .terminated = event { ended.notify() }
        }
    }

    private func eventually(
        _ store: MeshStore, _ condition: @escaping @Sendable (MeshState) -> Bool,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async {
        let signal = ChangeSignal()
        let observation = store.onChange { _ in signal.notify() }
        let held = await signal.wait(timeout: .seconds(30)) { condition(store.snapshot()) }
        observation.end()
        #expect(held, sourceLocation: sourceLocation)
    }

    @Test("a proxy follows the objects, knows the server by each of its names, and releases are waited for")
    func discovery() async throws {
        let controller = try await RunningController()
        let store = MeshStore()
        let client = try client(
            controller, store, token: await controller.token(), serverName: "istiod.istio-system.svc")
        let task = Task { await client.run() }
        #expect(await client.waitUntilReady(timeout: .seconds(30)))
        let uid = "Kubernetes//Pod/shop/web"
        #expect(store.snapshot().workload(uid: uid) == nil)

        try controller.report("web")
        await eventually(store) { $0.workload(uid: uid)?.node == "n1" }
        try controller.setCaptured("web", true)
        await eventually(store) { $0.workload(uid: uid)?.tunnelProtocol == .hbone }

        // Nobody is told of a release that was not reported.
        let pod = ObjectName(namespace: "shop", name: "web")
        let early = await controller.server.waitUntilReleased(pod, timeout: .milliseconds(200))
        #expect(early == ["the report that shop/web is released"])
        try controller.setCaptured("web", false)
        #expect(await controller.server.waitUntilReleased(pod, timeout: .seconds(30)) == [])
        #expect(store.snapshot().workload(uid: uid)?.tunnelProtocol == Workload.TunnelProtocol.none)

        let policy = """
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: deny, namespace: shop}
            spec: {action: DENY, rules: [{}]}
            """
        try policy.write(toFile: controller.source + "/policy.yaml", atomically: true, encoding: .utf8)
        await eventually(store) { $0.policy("shop/deny")?.action == .deny }
        try "kind: [".write(toFile: controller.source + "/policy.yaml", atomically: true, encoding: .utf8)
        try controller.report("web", address: "10.0.0.2")
        await eventually(store) { $0.workload(uid: uid)?.addresses == [IPAddress(10, 0, 0, 2)] }
        #expect(store.snapshot().policy("shop/deny") != nil)
        try FileManager.default.removeItem(atPath: controller.source + "/policy.yaml")
        await eventually(store) { $0.policy("shop/deny") == nil }
        task.cancel()
        await task.value
        try await controller.stop()
    }

    @Test("discovery needs a token that is in force")
    func discoveryTokens() async throws {
        let controller = try await RunningController()
        for token in ["", "garbage", try await controller.token(now: Date() - 25 * 3600)] {
            let ended = ChangeSignal()
            let client = try client(controller, MeshStore(), token: token, ended: ended)
            let task = Task { await client.run() }
            let expected: DiscoveryError.Code = token.isEmpty ? .tokenMissing : .refused
            #expect(await ended.wait(timeout: .seconds(30)) { client.lastError?.code == expected })
            #expect(!client.isReady)
            task.cancel()
            await task.value
        }
        #expect(controller.server.discovery.clients.isEmpty)
        try await controller.stop()
    }

    @Test("the token socket: root's alone, a token for a request, nothing for garbage")
    func tokenSocket() async throws {
        let controller = try await RunningController()
        let path = controller.state + "/token.sock"
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect(attributes[.posixPermissions] as? Int == 0o600)

        // On a thread of its own: the socket waits, and tests share few threads.
        func ask(_ bytes: [UInt8]) async throws -> TokenReply? {
            try await withCheckedThrowingContinuation { continuation in
                DispatchQueue.global().async { continuation.resume(with: Result { try exchange(bytes) }) }
            }
        }
        @Sendable func exchange(_ bytes: [UInt8]) throws -> TokenReply? {
            let socket = try SeqpacketSocket.connect(path: path)
            try socket.send(bytes)
            guard try socket.waitReadable(milliseconds: 30_000),
                let packet = try socket.receive(limit: TokenReply.maximumLength), !packet.bytes.isEmpty
            else { return nil }
            return try TokenReply(decoding: packet.bytes)
        }
        #expect(try await ask([0xff, 0xff, 0xff]) == nil)
        #expect(try await ask(TokenRequest(node: "").encoded()) == nil)
        #expect(try await ask([UInt8](repeating: 0x0a, count: 5000)) == nil)
        let reply = try #require(try await ask(TokenRequest(node: "n7").encoded()))
        #expect(reply.error.isEmpty)
        #expect(reply.rootPEM == controller.server.rootPEM)
        let claims = try await controller.tokens.verifier.verify(reply.token, now: Date())
        #expect(claims.node == "n7")
        #expect(Int64(claims.expiresAt.timeIntervalSince1970) == reply.expiresAt)

        // A pod that was never captured is released already.
        #expect(try await ask(TokenRequest(node: "n1", released: "shop/web").encoded())?.error == "")
        #expect(
            try await ask(TokenRequest(node: "n1", released: "web").encoded())?.error.contains("no namespace") == true)

        // A second controller on the same state stays out.
        let second = try await ControllerServer(
            RunningController.settings(controller.folder), logger: RunningController.quiet)
        let error = await #expect(throws: ControllerError.self) { try await second.run() }
        #expect(error?.code == .tokenSocket)
        #expect(try await ask(TokenRequest(node: "n7").encoded())?.error == "")
        try await controller.stop()
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test("TLS 1.2 gets no answer, TLS 1.3 does", arguments: [TLSVersion.tlsv12, .tlsv13])
    func tlsVersion(version: TLSVersion) async throws {
        let controller = try await RunningController()
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .certificates(
            try NIOSSLCertificate.fromPEMBytes(Array(controller.server.rootPEM.utf8)))
        configuration.maximumTLSVersion = version
        configuration.applicationProtocols = ["h2"]
        let context = try NIOSSLContext(configuration: configuration)
        let first = MultiThreadedEventLoopGroup.singleton.any().makePromise(of: Int.self)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers([
                        try NIOSSLClientHandler(context: context, serverHostname: "localhost"),
                        FirstBytes(first),
                    ])
                }
            }
            .connect(host: "127.0.0.1", port: Int(controller.endpoint.port)).get()
        // The preface and empty settings of HTTP/2.
        let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]
        // On a connection that is refused the write fails, too.
        try? await channel.writeAndFlush(ByteBuffer(bytes: preface))
        let count = try await first.futureResult.get()
        #expect((count > 0) == (version == .tlsv13))
        try? await channel.close()
        try await controller.stop()
    }

    /// Fulfils its promise with the number of bytes that come first, 0 when the connection ends without.
    private final class FirstBytes: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        let promise: EventLoopPromise<Int>
        init(_ promise: EventLoopPromise<Int>) { self.promise = promise }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            promise.succeed(unwrapInboundIn(data).readableBytes)
        }
        func channelInactive(context: ChannelHandlerContext) { promise.succeed(0) }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }

    @Test("the state directory: the owner's alone, and never where objects lie")
    func stateDirectory() async throws {
        let folder = try RunningController.folders()
        func start(state: String) async -> ControllerError? {
            var settings = RunningController.settings(folder)
            settings.state = state
            do {
                _ = try await ControllerServer(settings, logger: RunningController.quiet)
                return nil
            } catch {
                return error
            }
        }
        for inside in ["/source", "/source/state", "/status/state", "/source/../source/state"] {
            #expect(await start(state: folder + inside)?.code == .stateDirectory)
        }
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/link", withDestinationPath: folder + "/source")
        #expect(await start(state: folder + "/link/state")?.code == .stateDirectory)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/source").isEmpty)

        let open = folder + "/open"
        try FileManager.default.createDirectory(
            atPath: open, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
        #expect(await start(state: open)?.code == .stateDirectory)
        #expect(try FileManager.default.contentsOfDirectory(atPath: open).isEmpty)

        #expect(await start(state: folder + "/state") == nil)
        let attributes = try FileManager.default.attributesOfItem(atPath: folder + "/state")
        #expect(attributes[.posixPermissions] as? Int == 0o700)
        // A name that begins alike is another folder.
        #expect(await start(state: folder + "/source-state") == nil)
        try FileManager.default.removeItem(atPath: folder)
    }

    @Test("what the admin routes show")
    func admin() async throws {
        let folder = try RunningController.folders()
        try RunningController.objects.write(toFile: folder + "/source/a.yaml", atomically: true, encoding: .utf8)
        try "kind: [".write(toFile: folder + "/source/b.yaml", atomically: true, encoding: .utf8)
        let l7 = """
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: l7, namespace: shop}
            spec: {rules: [{to: [{operation: {paths: [/x]}}]}]}
            """
        try l7.write(toFile: folder + "/source/c.yaml", atomically: true, encoding: .utf8)
        var settings = RunningController.settings(folder)
        settings.serving.admin = Endpoint(.loopbackV4, 0)
        let server = try await ControllerServer(settings, logger: RunningController.quiet)
        #expect(!server.readiness.isReady)
        let task = Task { try await server.run() }
        _ = try await server.endpoint
        func get(_ path: String) async throws -> (status: Int, body: String) {
            let route = try #require(server.adminRoutes.first { $0.path == path })
            let reply = try await route.handle(HTTPRequest(method: "GET", path: path))
            return (reply.status, String(decoding: reply.body, as: UTF8.self))
        }
        let resources = try await get("/debug/resources").body
        let document = try #require(
            JSONSerialization.jsonObject(with: Data(resources.utf8)) as? [String: Any])
        #expect((document["policies"] as? [Any])?.count == 1)
        #expect((document["problems"] as? [String])?.first?.hasPrefix("b.yaml:") == true)
        #expect((document["warnings"] as? [String])?.first?.hasPrefix("shop/l7: ") == true)
        let metrics = try await get("/metrics").body
        #expect(metrics.contains("apus_controller_source_problems 1"))
        #expect(metrics.contains(#"apus_controller_policy_warnings{effect="stricter"} 1"#))
        #expect(metrics.contains(#"apus_controller_resources{type="policy"} 1"#))
        task.cancel()
        try await task.value
        #expect(server.problems.count == 1)
        try FileManager.default.removeItem(atPath: folder)
    }
}
