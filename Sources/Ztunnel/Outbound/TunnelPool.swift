import Addressing
import HBONE
import LinuxNetwork
import Mesh
import TLSEngine

/// What connections must have in common to share a tunnel. The pod is not in it: each pod has a pool of its own, so two
/// pods never share one.
struct TunnelKey: Hashable {
    /// Whom the pod proves to be.
    let identity: SPIFFEIdentity
    let destination: Endpoint
    /// Whom the peer must prove to be, in order.
    let expected: [SPIFFEIdentity]
}

/// The tunnels that one worker has open for one pod.
final class TunnelPool {
    private unowned let proxy: PodProxy
    private var tunnels: [TunnelKey: [Tunnel]] = [:]
    /// Streams at once of peers that take fewer than we would open, so that the next tunnel is not filled beyond it.
    private var limits: [TunnelKey: Int] = [:]
    private static let rememberedLimits = 256
    private var isClosed = false

    init(_ proxy: PodProxy) { self.proxy = proxy }

    /// Carries the request through a tunnel that has room, or opens one.
    func open(_ request: TunnelRequest, through key: TunnelKey) {
        if let tunnel = tunnels[key]?.first(where: \.hasRoom) { return tunnel.carry(request) }
        guard !isClosed else {
            return request.fail(TunnelFailure(text: "the pod is going away", flag: .connectFailure))
        }
        let tunnel = Tunnel(proxy, self, key)
        tunnels[key, default: []].append(tunnel)
        tunnel.carry(request)
        tunnel.start()
    }

    /// How many connections may share a tunnel.
    fileprivate func limit(_ key: TunnelKey) -> Int {
        limits.isEmpty
            ? proxy.services.configuration.streamsPerTunnel
            : min(proxy.services.configuration.streamsPerTunnel, limits[key] ?? .max)
    }

    fileprivate func learned(_ limit: Int, of key: TunnelKey) {
        guard limit < proxy.services.configuration.streamsPerTunnel else {
            limits[key] = nil
            return
        }
        if limits.count >= Self.rememberedLimits { limits = [:] }
        // A peer that takes none at all is asked all the same, and refuses for itself.
        limits[key] = max(limit, 1)
    }

    fileprivate func remove(_ tunnel: Tunnel) {
        tunnels[tunnel.key]?.removeAll { $0 === tunnel }
        if tunnels[tunnel.key]?.isEmpty == true { tunnels[tunnel.key] = nil }
    }

    /// Streams finish; the peers are told that no new ones come. What is asked for from now on gets tunnels of its own.
    func drain() { for tunnel in Array(tunnels.values.joined()) { tunnel.drain() } }

    func close() {
        isClosed = true
        for tunnel in Array(tunnels.values.joined()) { tunnel.close() }
        tunnels = [:]
    }
}

/// One tunnel, from the wait for certificate and socket to its end.
final class Tunnel: HBONEConnectionDelegate, RevocableTunnel, StockWaiter, TimerHandler {
    private enum State {
        case preparing
        case open(HBONEConnection)
        case over
    }

    let key: TunnelKey
    private unowned let proxy: PodProxy
    private weak var pool: TunnelPool?
    private var state = State.preparing
    private var waiting: [TunnelRequest] = []
    private var streams = 0
    /// Requests that went out before the peer said how many it takes at once.
    private var hasty: [TunnelRequest] = []
    private var knowsLimit = false
    private var context: TLSContext?
    /// What the worker's index finds it by.
    private var chain: [CertificateKey] = []
    /// Its streams end because the peer's certificate was revoked.
    private(set) var isRevoked = false
    /// While preparing: the limit for it. While open without streams: the idle limit.
    private var timer: TimerID?

    init(_ proxy: PodProxy, _ pool: TunnelPool, _ key: TunnelKey) {
        self.proxy = proxy
        self.key = key
        self.pool = pool
    }

    /// Whether one more stream fits.
    var hasRoom: Bool {
        let limit = pool?.limit(key) ?? 0
        return switch state {
        case .preparing: waiting.count < limit
        case .open(let connection): streams < limit && streams < connection.streamLimit && connection.canOpen
        case .over: false
        }
    }

    func carry(_ request: TunnelRequest) {
        switch state {
        case .preparing: waiting.append(request)
        case .open(let connection): open(request, on: connection)
        case .over: request.fail(TunnelFailure(text: "the tunnel has ended", flag: .connectFailure))
        }
    }

    private func open(_ request: TunnelRequest, on connection: HBONEConnection) {
        guard !request.isOver else { return }
        do {
            let stream = try connection.open(
                request.request, deadline: proxy.services.configuration.responseTimeout, delegate: request)
            request.tunnel = self
            streams += 1
            cancelTimer()
            if !knowsLimit { hasty.append(request) }
            request.opened(stream)
        } catch {
            request.fail(TunnelFailure(error))
        }
    }

    // MARK: Preparing

    func start() {
        timer = proxy.loop.schedule(after: proxy.services.configuration.connectTimeout + .seconds(10), self)
        proxy.worker.contexts(for: key.identity) { [weak self] result in self?.received(result) }
    }

    private func received(_ result: Result<CertificateContexts.Pair, any Error>) {
        guard case .preparing = state else { return }
        switch result {
        case .failure(let error):
            fail(TunnelFailure(text: "no certificate for \(key.identity): \(error)", flag: .identityError))
        case .success(let pair):
            context = pair.client
            if let socket = proxy.stock.take() {
                received(socket)
            } else if !proxy.stock.wait(self) {
                fail(
                    TunnelFailure(
                        text: "too many connections wait for a socket of the pod", flag: .connectFailure))
            }
        }
    }

    var wantsSocket: Bool { if case .preparing = state { true } else { false } }

    func received(_ socket: consuming PreparedSocket) {
        guard case .preparing = state, let context else { return }
        let dualStack = socket.dualStack
        guard key.destination.address.isV4 || dualStack else {
            return fail(
                TunnelFailure(text: "the pod has no IPv6, and its peer is \(key.destination)", flag: .connectFailure))
        }
        let descriptor = socket.takeDescriptor()
        do {
            _ = try Sockets.connect(descriptor.raw, to: key.destination, dualStack: dualStack)
            let connection = try HBONEConnection.open(
                descriptor, to: key.destination, on: proxy.loop, context: context, expectedIdentities: key.expected,
                settings: proxy.services.configuration.clientSettings, delegate: self)
            cancelTimer()
            state = .open(connection)
            let requests = waiting
            waiting = []
            for request in requests { open(request, on: connection) }
        } catch {
            fail(TunnelFailure(text: "\(error)", flag: .connectFailure))
        }
    }

    func timerFired(tag: Int) {
        timer = nil
        switch state {
        case .preparing:
            fail(
                TunnelFailure(
                    text: context == nil
                        ? "no certificate for \(key.identity) came in time"
                        : "no socket of the pod came in time; is apus-sockets running on the node?",
                    flag: context == nil ? .identityError : .connectFailure))
        case .open(let connection): connection.drain()
        case .over: break
        }
    }

    private func cancelTimer() {
        if let timer { proxy.loop.cancel(timer) }
        timer = nil
    }

    private func fail(_ failure: TunnelFailure) {
        let requests = waiting
        waiting = []
        end()
        for request in requests { request.fail(failure) }
    }

    // MARK: Open

    func streamEnded() {
        streams -= 1
        guard streams == 0, case .open = state else { return }
        timer = proxy.loop.schedule(after: proxy.services.configuration.tunnelIdleTimeout, self)
    }

    /// The peer's SETTINGS came. What is more than it takes at once would wait for others to end, perhaps for ever: it
    /// goes through another tunnel.
    func connectionCapacityChanged(_ connection: HBONEConnection) {
        guard !knowsLimit, connection.knowsPeerSettings else { return }
        knowsLimit = true
        pool?.learned(connection.streamLimit, of: key)
        let requests = hasty
        hasty = []
        for request in requests where request.withdraw() {
            streams -= 1
            if let pool {
                pool.open(request, through: key)
            } else {
                request.fail(TunnelFailure(text: "the pod is going away", flag: .none))
            }
        }
    }

    func connectionEstablished(_ connection: HBONEConnection) -> Bool {
        guard let chain = proxy.worker.chains.insert(self, connection) else { return false }
        self.chain = chain
        return true
    }

    func connectionClosed(_ connection: HBONEConnection, error: HBONEError?) { end() }

    func revoke() {
        isRevoked = true
        if case .open(let connection) = state { connection.close() }
    }

    func drain() {
        if case .open(let connection) = state { connection.drain() }
    }

    func close() {
        if case .open(let connection) = state { connection.close() }
        fail(TunnelFailure(text: "the pod is going away", flag: .none))
    }

    private func end() {
        guard !isOver else { return }
        cancelTimer()
        proxy.worker.chains.remove(self, chain)
        state = .over
        hasty = []
        pool?.remove(self)
    }

    private var isOver: Bool { if case .over = state { true } else { false } }
}

extension ZtunnelConfiguration {
    var clientSettings: HBONESettings { sized(.client) }
    var serverSettings: HBONESettings { sized(.server) }

    private func sized(_ base: HBONESettings) -> HBONESettings {
        var settings = base
        settings.streamWindow = streamWindow
        settings.connectionWindow = connectionWindow
        settings.maximumFrameSize = frameSize
        settings.connectTimeout = connectTimeout
        if streamsPerTunnel > settings.maximumStreams { settings.maximumStreams = streamsPerTunnel }
        return settings
    }
}
