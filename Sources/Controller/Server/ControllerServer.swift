public import Addressing
public import Discovery
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Identity
public import Logging
import NIOCore
public import ObjectSource
import Observability

/// The control plane: discovery and certificates on one TLS port and, without a cluster, node tokens on a socket in its
/// state directory.
public final class ControllerServer: Sendable {
    /// The names that proxies expect a control plane by.
    static let serverNames = ["istiod.istio-system.svc", "localhost"]
    /// How long a request for an identity waits for the report of its pod.
    static let patience = Duration.seconds(2)
    /// How long the first word to proxies waits for other clusters, as istiod does: who is told of less than before
    /// forgets the rest.
    static let remotePatience = Duration.seconds(30)

    public let discovery: DiscoveryServer
    /// PEM, for those who connect.
    public var rootPEM: String { parts.authority.rootPEM }
    /// Ready once the objects are published and the port is open.
    public let readiness = Readiness()

    /// What a controller is made of, wherever its objects come from.
    struct Parts: Sendable {
        var source: any ObjectSource
        /// The other clusters of the mesh.
        var remotes = RemoteClusters()
        var authority: EmbeddedCA
        var verifier: any CallerVerifier
        /// Service accounts whose pods speak for the node they run on.
        var nodeAccounts: Set<ObjectName> = []
        /// Issues node tokens on a socket in this directory; none where a cluster issues tokens.
        var tokens: (issuer: NodeTokenIssuer, directory: String)?
        /// Told of every state that is published.
        var observe: @Sendable (MeshPublisher.Report) -> Void = { _ in }
    }

    private let settings: ControllerSettings.Serving
    private let parts: Parts
    let publisher: MeshPublisher
    private let pods: PodDirectory
    private let certificates: ServerCertificates
    let metrics: ControllerMetrics
    private let transport: HTTP2ServerTransport.Posix
    private let server: GRPCServer<HTTP2ServerTransport.Posix>
    private let listener: ListenerGuard
    private let listening: Readiness.Task
    private let objects: Readiness.Task
    private let now: @Sendable () -> Date
    private let logger: Logger

    /// Opens the state and reads the objects once; nothing is served before ``run()``.
    ///
    /// - Parameters:
    ///   - now: The time that tokens and certificates are held against.
    /// - Throws: ``ControllerError``.
    public convenience init(
        _ settings: ControllerSettings, logger: Logger, now: @escaping @Sendable () -> Date = { Date() }
    ) async throws(ControllerError) {
        try StateDirectory.prepare(settings.state, apartFrom: [settings.source, settings.status])
        let source: FolderObjectSource
        do {
            source = try FolderObjectSource(source: settings.source, status: settings.status)
        } catch {
            throw ControllerError(
                .source, "the objects cannot be read", cause: "\(error)", hint: "check --source and --status")
        }
        var parts = try await Parts(settings, source, now: now())
        parts.remotes = try RemoteClusters(
            folders: settings.remoteClusters, ownCluster: settings.serving.mesh.clusterID)
        try self.init(settings.serving, parts, logger: logger, now: now)
    }

    init(
        _ settings: ControllerSettings.Serving, _ parts: Parts, logger: Logger, now: @escaping @Sendable () -> Date
    ) throws(ControllerError) {
        self.settings = settings
        self.parts = parts
        self.logger = logger
        self.now = now
        discovery = DiscoveryServer(logger: logger)
        listener = ListenerGuard(logger: logger)
        do {
            metrics = try ControllerMetrics(MetricsRegistry())
            try metrics.watch(discovery, parts.authority)
            var addresses: Set<IPAddress> = [.loopbackV4, .loopbackV6]
            if !settings.listen.address.isUnspecified { addresses.insert(settings.listen.address) }
            certificates = try ServerCertificates(
                parts.authority, names: Self.serverNames + settings.serverNames, addresses: addresses.sorted(),
                now: now())
            let snapshot = parts.source.snapshot()
            pods = PodDirectory(
                snapshot, settings.mesh, nodeAccounts: parts.nodeAccounts, patience: Self.patience)
            publisher = MeshPublisher(
                MeshTranslation(settings.mesh), discovery, metrics, logger, observe: parts.observe)
            // What is known of a cluster is nothing until all of it is.
            if parts.source.health.isSynced { publisher.publish(snapshot, parts.remotes.clusters()) }
            let check = CallerCheck(verifier: parts.verifier, now: now, metrics: metrics, logger: logger)
            transport = try Self.transport(settings, certificates, listener)
            server = GRPCServer(
                transport: transport,
                services: [
                    DiscoveryService(discovery) { metadata in
                        let caller = try await check.caller(metadata, of: "discovery")
                        return caller.node.isEmpty ? "\(caller)" : caller.node
                    },
                    CertificateService(authority: parts.authority, check: check, pods: pods, metrics: metrics),
                ])
        } catch {
            throw ControllerError(.authority, "the controller cannot be set up", cause: "\(error)")
        }
        listening = readiness.pending("listen at \(settings.listen)")
        objects = readiness.pending("objects")
    }

    private static func transport(
        _ settings: ControllerSettings.Serving, _ certificates: ServerCertificates, _ listener: ListenerGuard
    ) throws -> HTTP2ServerTransport.Posix {
        let address: GRPCNIOTransportCore.SocketAddress =
            settings.listen.address.isV4
            ? .ipv4(host: settings.listen.address.description, port: Int(settings.listen.port))
            : .ipv6(host: settings.listen.address.description, port: Int(settings.listen.port))
        let config = HTTP2ServerTransport.Posix.Config.defaults { config in
            config.http2.targetWindowSize = 1 << 20
            config.http2.maxConcurrentStreams = 100
            // A client that reconnects tells of every resource it has.
            config.rpc.maxRequestPayloadSize = 64 << 20
            config.connection.keepalive.time = .seconds(30)
            config.connection.keepalive.timeout = .seconds(10)
            config.connection.keepalive.clientBehavior.minPingIntervalWithoutCalls = .seconds(10)
            config.connection.keepalive.clientBehavior.allowWithoutCalls = true
            listener.install(in: &config)
            config.channelDebuggingCallbacks.onAcceptTCPConnection = { RequireTLS13.add(to: $0) }
        }
        return HTTP2ServerTransport.Posix(
            address: address, transportSecurity: try .tls(certificateReloader: certificates), config: config)
    }

    /// Where it listens, once it does.
    public var endpoint: Addressing.Endpoint {
        get async throws {
            let address = try await transport.listeningAddress
            let text = address.ipv4.map { ($0.host, $0.port) } ?? address.ipv6.map { ($0.host, $0.port) }
            guard let text, let ip = IPAddress(text.0), let port = UInt16(exactly: text.1) else {
                throw ControllerError(.listen, "the address \(address) is none")
            }
            return Addressing.Endpoint(ip, port)
        }
    }

    /// How far what is known of the objects can be relied on.
    var health: ObjectSourceHealth { parts.source.health }
    /// What is wrong with the source.
    public var problems: [ObjectProblem] { publisher.problems }
    /// Policies that are not, or not wholly, in force.
    public var warnings: [PolicyWarning] { publisher.warnings }

    /// Waits until every connected proxy has taken note that a pod is no longer captured.
    ///
    /// - Returns: Empty when all have; else who or what was missing when the time was over.
    public func waitUntilReleased(_ pod: ObjectName, timeout: Duration) async -> [String] {
        await publisher.waitUntilReleased(pod, timeout: timeout)
    }

    /// Serves until the task is cancelled.
    ///
    /// - Throws: ``ControllerError`` when a port or the socket cannot be had, or a listener fails.
    public func run() async throws {
        let socket = try parts.tokens.map { tokens in
            try TokenSocket(directory: tokens.directory, answers: answers(tokens.issuer), logger: logger)
        }
        defer { socket?.close() }
        let admin = try await startAdmin()
        do {
            try await publishFirst()
            try await withThrowingTaskGroup(of: Bool.self) { group in
                // True: the whole is over.
                group.addTask {
                    try await self.serve()
                    return true
                }
                group.addTask {
                    await self.follow()
                    return true
                }
                group.addTask {
                    await self.renew()
                    return true
                }
                group.addTask {
                    let endpoint = try await self.endpoint
                    self.listening.done()
                    self.logger.info("controller is listening", metadata: ["address": "\(endpoint)"])
                    return false
                }
                defer { group.cancelAll() }
                while let isOver = try await group.next(), !isOver {}
            }
        } catch is CancellationError {
            // What run() waits for.
        } catch {
            await admin?.close()
            throw error
        }
        await admin?.close()
    }

    private func serve() async throws {
        do {
            try await listener.run { [server] in try await server.serve() }
        } catch {
            // Cancelled, the transport reports some error or other.
            try Task.checkCancellation()
            throw ControllerError(
                .listen, "cannot serve at \(settings.listen)", cause: "\(error)", hint: "is another one running there?")
        }
    }

    /// Nobody is served before the objects have been read whole: to whom nothing is told, nothing is left.
    private func publishFirst() async throws {
        for await _ in parts.source.snapshots() {
            let missing = await parts.remotes.waitUntilKnown(timeout: Self.remotePatience)
            try Task.checkCancellation()
            if !missing.isEmpty {
                logger.warning(
                    "clusters are not known yet; this one is served without them",
                    metadata: ["missing": "\(missing.joined(separator: ", "))"])
            }
            publish()
            return objects.done()
        }
        throw CancellationError()
    }

    private func follow() async {
        let (due, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [parts] in
                for await _ in parts.source.snapshots() { continuation.yield() }
                // Closed, or cancelled.
                continuation.finish()
            }
            group.addTask { [parts] in
                for await _ in parts.remotes.changes { continuation.yield() }
            }
            for await _ in due {
                publish()
                // What changes meanwhile comes as one. Cancelled, the stream ends.
                try? await ContinuousClock().sleep(for: PushPace.rest(clients: discovery.counts.clients))
            }
            group.cancelAll()
        }
    }

    private func publish() {
        let snapshot = parts.source.snapshot()
        pods.update(snapshot)
        publisher.publish(snapshot, parts.remotes.clusters())
    }

    /// Takes a certificate from the authority as it is now.
    func authorityChanged() {
        do {
            try certificates.renew(now: now())
            logger.info("server certificate renewed, as the authority has changed")
        } catch {
            logger.error("the server certificate cannot be renewed", metadata: ["reason": "\(error)"])
        }
    }

    private func renew() async {
        while !Task.isCancelled {
            let left = certificates.notAfter.timeIntervalSince(now())
            do {
                try await ContinuousClock().sleep(for: .seconds(max(left / 2, 60)))
                try certificates.renew(now: now())
                logger.info("server certificate renewed")
            } catch is CancellationError {
                return
            } catch {
                logger.error("the server certificate cannot be renewed", metadata: ["reason": "\(error)"])
            }
        }
    }

    private func answers(_ tokens: NodeTokenIssuer) -> TokenSocket.Answers {
        TokenSocket.Answers(
            token: { [metrics, now] node throws(IdentityError) in
                let issued = try await tokens.issue(node: node, now: now())
                metrics.tokens.single.increment()
                return issued
            },
            released: { [publisher] text in
                let parts = text.split(separator: "/", omittingEmptySubsequences: false)
                guard parts.count == 2 else { return "\"\(text)\" is no namespace/name" }
                let pod = ObjectName(namespace: String(parts[0]), name: String(parts[1]))
                let missing = await publisher.waitUntilReleased(pod, timeout: .seconds(5))
                return missing.isEmpty ? "" : "not yet known to: \(missing.joined(separator: ", "))"
            },
            rootPEM: rootPEM)
    }

    var adminRoutes: [HTTPRoute] { AdminRoutes.routes(metrics, readiness, discovery, publisher, parts.remotes) }

    private func startAdmin() async throws -> HTTPEndpoint? {
        guard let admin = settings.admin else { return nil }
        do {
            return try await HTTPEndpoint.start(
                on: [(admin.address.description, Int(admin.port))],
                routes: adminRoutes)
        } catch {
            throw ControllerError(.listen, "cannot serve at \(admin)", cause: "\(error)")
        }
    }
}
