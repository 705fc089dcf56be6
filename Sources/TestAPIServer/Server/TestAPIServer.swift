import Foundation
import Kubernetes
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// An API server for tests: what Kubernetes's does with objects, as far as Apus, its chart, `kubectl` and client
/// libraries ask for it, in one process and in memory.
///
/// There are no controllers but for namespaces, no scheduler and no kubelet: a test plays them by ``perform(_:_:_:type:)``
/// or through any client. See docs/test-apiserver.md.
public final class TestAPIServer: Sendable {
    public struct Settings: Sendable {
        /// An address of this machine.
        public var host = "127.0.0.1"
        /// 0: any that is free; the same one is used again after a stop.
        public var port = 0
        /// Without it the server speaks plain HTTP and everybody is the administrator.
        public var usesTLS = true
        /// More names and addresses for the server's certificate.
        public var names: [String] = []
        /// Whether roles and bindings decide what service accounts may do.
        public var enforcesRoles = false
        /// Bookmarks come so often to watches that want them.
        public var bookmarkInterval = Duration.seconds(5)
        /// Changes that a watch may go on from, at least.
        public var historyLimit = 10_000
        /// Makes the socket to listen on, bound to ``host`` and ``port``, where it must be made elsewhere, as in another
        /// network namespace. The server owns it from then on.
        public var makeSocket: (@Sendable () throws -> CInt)?
        /// What the server takes for the time: tokens and timestamps follow it.
        public var clock: @Sendable () -> Date = { Date() }

        public init() {}
    }

    public let settings: Settings
    /// The administrator's, good for as long as the server is there.
    public let adminToken: String

    struct State {
        var cluster: Cluster
        var credentials: ServerCredentials?
        var tls: NIOSSLContext?
        var faults = Faults()
        var watchers: [ObjectIdentifier: Watcher] = [:]
        /// Held back, to be told in the wrong order.
        var heldBack: [Store.Change] = []
        var told = 0
        var counts: [String: Int] = [:]
        var writes: [String] = []
        var listener: (any Channel)?
        var connections: [ObjectIdentifier: any Channel] = [:]
        var port = 0
        var bookmarks: RepeatedTask?
    }
    let state: Mutex<State>

    /// A server that has the namespaces of a new cluster and nothing else, and does not serve before ``resume()``.
    public init(_ settings: Settings) throws {
        self.settings = settings
        adminToken = UUID().uuidString.lowercased()
        let credentials = settings.usesTLS ? try Self.credentials(settings) : nil
        var cluster = Cluster(authority: credentials?.authority, now: settings.clock())
        cluster.enforcesRoles = settings.enforcesRoles
        cluster.staticTokens[adminToken] = (.admin, [TokenAuthority.issuer])
        cluster.store.historyLimit = settings.historyLimit
        state = Mutex(State(cluster: cluster, credentials: credentials, tls: try credentials?.tlsContext()))
    }

    static func credentials(_ settings: Settings) throws -> ServerCredentials {
        var names = ["localhost", "kubernetes", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        var addresses: [[UInt8]] = []
        for name in [settings.host, "127.0.0.1"] + settings.names {
            if let bytes = (try? SocketAddress(ipAddress: name, port: 0))?.addressBytes {
                if !addresses.contains(bytes) { addresses.append(bytes) }
            } else {
                names.append(name)
            }
        }
        return try ServerCredentials(names: names, addresses: addresses, now: settings.clock())
    }

    /// A server that serves.
    /// - Throws: When it cannot listen.
    public static func start(_ settings: Settings = Settings()) async throws -> TestAPIServer {
        let server = try TestAPIServer(settings)
        try await server.resume()
        return server
    }

    deinit {
        state.withLock { state in
            state.bookmarks?.cancel()
            state.listener?.close(promise: nil)
            for channel in state.connections.values { channel.close(promise: nil) }
        }
    }

    // MARK: Life

    /// Stops listening and cuts every connection, as a crash does. What is stored stays.
    public func stop() async {
        let (listener, connections) = state.withLock { state in
            state.bookmarks?.cancel()
            defer { (state.listener, state.connections, state.watchers) = (nil, [:], [:]) }
            return (state.listener, Array(state.connections.values))
        }
        // Either may be closed already.
        try? await listener?.close()
        for channel in connections { try? await channel.close() }
    }

    /// Begins to serve, or serves again after ``stop()``, at the same port.
    public func resume() async throws {
        let port = state.withLock { $0.port == 0 ? settings.port : $0.port }
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.backlog, value: 1024)
            // A watch that is behind by more than this is ended.
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 8 << 20, high: 32 << 20))
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { [weak self] channel in
                channel.eventLoop.makeCompletedFuture { try self?.prepare(channel) }
            }
        let listener =
            if let socket = try settings.makeSocket?() {
                try await bootstrap.withBoundSocket(socket).get()
            } else {
                try await bootstrap.bind(host: settings.host, port: port).get()
            }
        let interval = TimeAmount.nanoseconds(Int64(settings.bookmarkInterval / .nanoseconds(1)))
        let bookmarks = listener.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) {
            [weak self] _ in
            self?.sendBookmarks()
        }
        state.withLock { state in
            state.listener = listener
            state.port = listener.localAddress?.port ?? 0
            state.bookmarks = bookmarks
        }
    }

    private func prepare(_ channel: any Channel) throws {
        state.withLock { $0.connections[ObjectIdentifier(channel)] = channel }
        channel.closeFuture.whenComplete { [weak self] _ in
            // Not at once: it may be closed by somebody who holds the lock.
            guard let self else { return }
            channel.eventLoop.execute {
                self.state.withLock { state in
                    state.connections[ObjectIdentifier(channel)] = nil
                    state.watchers[ObjectIdentifier(channel)] = nil
                }
            }
        }
        let pipeline = channel.pipeline.syncOperations
        if let tls = state.withLock({ $0.tls }) { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
        try pipeline.configureHTTPServerPipeline()
        try pipeline.addHandler(HTTPCallHandler { [weak self] call in self?.handle(call) })
    }

    // MARK: Requests

    private func handle(_ call: HTTPCall) {
        let delay = state.withLock { $0.faults.answerDelay }
        guard delay > .zero else { return answer(call) }
        call.channel.eventLoop.scheduleTask(in: .nanoseconds(Int64(delay / .nanoseconds(1)))) { [weak self] in
            self?.answer(call)
        }
    }

    private func answer(_ call: HTTPCall) {
        state.withLock { state in
            var call = call
            if let status = state.faults.refusal(of: call.request.path) {
                state.counts["refused", default: 0] += 1
                return Self.send(APIFailure(status, Self.reason(status), "refused by a test"), to: call)
            }
            let now = settings.clock()
            guard let user = user(of: call, &state, now) else {
                state.counts["refused", default: 0] += 1
                return Self.send(APIFailure(401, "Unauthorized", "Unauthorized"), to: call)
            }
            // The connection stays, and nothing is said.
            if let token = call.token, state.faults.unanswered.contains(token) { return }
            call.request.user = user
            Self.count(call.request, &state)
            if state.faults.expiresPages, call.request.query["continue"] ?? "" != "" {
                return Self.send(.expired("expired by a test"), to: call)
            }
            switch state.cluster.handle(call.request, now: now) {
            case .value(let value, let code, let type): call.answer(code, value.bytes, type: type)
            case .bytes(let bytes, let type): call.answer(200, bytes, type: type)
            case .watch(let plan): begin(plan, call, &state, now)
            }
            tellChanges(&state, now)
        }
    }

    private func user(of call: HTTPCall, _ state: inout State, _ now: Date) -> APIUser? {
        if !settings.usesTLS, call.token == nil { return .admin }
        if let token = call.token {
            guard let (user, audiences) = state.cluster.user(of: token, now: now),
                audiences.contains(TokenAuthority.issuer)
            else { return nil }
            return user
        }
        if let user = call.certificateUser { return user }
        // Whether it lives may be asked by everybody.
        return call.request.path.hasSuffix("z") || call.request.path == "/version"
            ? APIUser(name: "system:anonymous") : nil
    }

    private static func send(_ failure: APIFailure, to call: HTTPCall) {
        call.answer(failure.code, failure.status.bytes, type: "application/json")
    }

    private static func reason(_ status: Int) -> String {
        switch status {
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "NotFound"
        case 409: "Conflict"
        case 410: "Expired"
        case 429: "TooManyRequests"
        case 500: "InternalError"
        case 503: "ServiceUnavailable"
        default: "Unknown"
        }
    }

    private static func count(_ request: APIRequest, _ state: inout State) {
        let plural = request.path.split(separator: "/").last.map(String.init) ?? ""
        let verb = request.method == "GET" ? request.isTrue("watch") ? "watch" : "get" : request.method.lowercased()
        state.counts["\(verb) \(plural)", default: 0] += 1
        state.counts[verb, default: 0] += 1
        guard verb != "get", verb != "watch", case .objects(let place)? = try? request.target() else { return }
        if state.writes.count >= Self.writesKept { state.writes.removeFirst(Self.writesKept / 2) }
        let manager = request.query["fieldManager"] ?? ""
        // A create has its object's name in the body, if it has one.
        let name = place.name.isEmpty ? (try? request.value().name) ?? "" : place.name
        let object = place.namespace.isEmpty ? name : "\(place.namespace)/\(name)"
        state.writes.append(
            [manager, verb == "post" ? "create" : verb, place.plural, object, place.subresource]
                .filter { !$0.isEmpty }.joined(separator: " "))
    }

    private static let writesKept = 10_000

    // MARK: Watches

    private func begin(_ plan: WatchPlan, _ call: HTTPCall, _ state: inout State, _ now: Date) {
        if state.faults.expiresWatches {
            let failure = APIFailure.expired("too old resource version: expired by a test")
            guard state.faults.expiresByEvent else { return Self.send(failure, to: call) }
            call.begin()
            call.send(Watcher.failure(failure))
            return call.end()
        }
        call.begin()
        if state.faults.endsWatchesAtOnce { return call.end() }
        let watcher = Watcher(plan, call)
        if !state.faults.isSilent {
            for (index, event) in plan.first.enumerated() {
                send(watcher.line(event.type, event.object, isFirst: index == 0, now: now), to: watcher, state.faults)
            }
            if plan.endsFirstByBookmark {
                send(watcher.bookmark(plan.start, endsFirst: true), to: watcher, state.faults)
            }
        }
        state.watchers[ObjectIdentifier(call.channel)] = watcher
        call.channel.eventLoop.scheduleTask(in: .seconds(Int64(plan.seconds))) { [weak self] in
            guard let self else { return }
            self.state.withLock { state in
                guard state.watchers[ObjectIdentifier(call.channel)] === watcher else { return }
                state.watchers[ObjectIdentifier(call.channel)] = nil
                call.end()
            }
        }
    }

    /// Under the lock, so that all watches hear of all changes in one order.
    private func tellChanges(_ state: inout State, _ now: Date) {
        let changes = state.cluster.store.changes(after: state.told)
        guard !changes.isEmpty else { return }
        state.told = state.cluster.store.version
        guard !state.faults.isSilent else { return }
        guard state.faults.reverses > 1 || !state.heldBack.isEmpty else {
            for change in changes { tell(change, state, now) }
            return
        }
        state.heldBack += changes
        tellHeldBack(&state, now)
    }

    /// The latest first, once there are enough.
    func tellHeldBack(_ state: inout State, _ now: Date) {
        guard state.heldBack.count >= state.faults.reverses else { return }
        for change in state.heldBack.reversed() { tell(change, state, now) }
        state.heldBack = []
    }

    private func tell(_ change: Store.Change, _ state: State, _ now: Date) {
        // Most watches of a kind show an object alike: its bytes are made once.
        var made: [String: ByteBuffer] = [:]
        for watcher in state.watchers.values where watcher.plan.kind.key == change.kind {
            guard change.version > watcher.plan.start,
                let event = Store.event(change, watcher.plan.filter)
            else { continue }
            let isWhole = watcher.plan.representation == .objects && event.object == change.last
            let key = "\(event.type) \(watcher.plan.version)"
            let line =
                (isWhole ? made[key] : nil)
                ?? watcher.line(event.type, event.object, isFirst: watcher.plan.first.isEmpty, now: now)
            if isWhole { made[key] = line }
            send(line, to: watcher, state.faults)
        }
    }

    private func send(_ line: ByteBuffer, to watcher: Watcher, _ faults: Faults) {
        let call = watcher.call
        // Slower than what it watches: it begins anew where it is.
        guard call.channel.isWritable else { return call.cut() }
        for _ in 0..<max(1, faults.copies) {
            if faults.eventDelay > .zero {
                call.channel.eventLoop.scheduleTask(in: .nanoseconds(Int64(faults.eventDelay / .nanoseconds(1)))) {
                    call.send(line)
                }
            } else {
                call.send(line)
            }
        }
    }

    private func sendBookmarks() {
        state.withLock { state in
            guard !state.faults.isSilent, state.heldBack.isEmpty else { return }
            for watcher in state.watchers.values where watcher.plan.wantsBookmarks {
                let version = max(watcher.plan.start, state.cluster.store.version)
                send(watcher.bookmark(version), to: watcher, state.faults)
            }
        }
    }

    /// Changes the state in this process, and tells those who watch.
    func change<Result: Sendable>(_ body: (inout Cluster) -> Result) -> Result {
        state.withLock { state in
            let result = body(&state.cluster)
            tellChanges(&state, settings.clock())
            return result
        }
    }
}

extension SocketAddress {
    /// Four bytes or sixteen.
    fileprivate var addressBytes: [UInt8]? {
        switch self {
        case .v4(let address): withUnsafeBytes(of: address.address.sin_addr) { Array($0) }
        case .v6(let address): withUnsafeBytes(of: address.address.sin6_addr) { Array($0) }
        default: nil
        }
    }
}
