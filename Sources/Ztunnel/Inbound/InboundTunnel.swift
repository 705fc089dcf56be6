import Addressing
import HBONE
import LinuxNetwork
import Mesh
import Observability
import TLSEngine

/// A tunnel that a peer opens to the pod: TLS with the pod's certificate, then requests, each a connection of its own.
final class InboundTunnel: InboundConnection, HBONEConnectionDelegate, RevocableTunnel {
    private unowned let proxy: PodProxy
    private var descriptor: FileDescriptor?
    private let peer: Endpoint?
    private let local: Endpoint?
    private var connection: HBONEConnection?
    private var requests: [ObjectIdentifier: InboundRequest] = [:]
    var memory = InboundMemory()
    private var isOver = false
    private var halfOpen: HalfOpenTunnels<InboundTunnel>.Ticket?
    private var isDraining = false
    private var isEstablished = false
    /// What the worker's index finds it by.
    private var chain: [CertificateKey] = []

    init(_ proxy: PodProxy, _ accepted: consuming Sockets.Accepted) {
        self.proxy = proxy
        peer = accepted.peer
        let descriptor = accepted.takeDescriptor()
        local = Sockets.localEndpoint(descriptor.raw)
        self.descriptor = consume descriptor
    }

    func start() {
        let (ticket, evicted) = proxy.halfOpen.add(self)
        halfOpen = ticket
        evicted?.shed()
        proxy.withLocalWorkload { [self] workload in
            guard !isOver else { return }
            guard let workload else { return deny("unknown_workload", proxy.unknownWorkloadText) }
            proxy.worker.contexts(for: workload.identity) { [self] result in
                guard !isOver else { return }
                switch result {
                case .success(let pair): serve(pair)
                case .failure(let error):
                    deny("no_certificate", "no certificate for \(workload.identity): \(error)")
                }
            }
        }
    }

    private func serve(_ pair: CertificateContexts.Pair) {
        guard let descriptor = descriptor.take() else { return }
        do {
            connection = try HBONEConnection.serve(
                descriptor, on: proxy.loop, context: pair.server, settings: proxy.configuration.serverSettings,
                delegate: self)
            if proxy.isDraining { drain() }
        } catch {
            deny("system", "\(error)")
        }
    }

    /// Too many wait for their handshake: this one has waited longest. Told by the metric alone, since a flood of log
    /// lines would help the one who floods.
    private func shed() {
        guard !isOver else { return }
        proxy.services.metrics.denied.with([AccessRecord.Direction.inbound.rawValue, "half_open_limit"]).add(1)
        isOver = true
        connection?.close()
        over()
    }

    private func leaveHalfOpen() {
        if let halfOpen { proxy.halfOpen.remove(halfOpen) }
        halfOpen = nil
    }

    // MARK: HBONE

    func connectionEstablished(_ connection: HBONEConnection) -> Bool {
        leaveHalfOpen()
        guard let chain = proxy.worker.chains.insert(self, connection) else { return false }
        self.chain = chain
        isEstablished = true
        if isDraining { connection.drain() }
        return true
    }

    func revoke() { abort(.certificateRevoked) }

    func connection(_ connection: HBONEConnection, received request: ConnectRequest, on stream: HBONEStream) {
        guard let peer, let local, let identity = connection.peerIdentity else { return stream.reject(status: 400) }
        let inbound = InboundRequest(
            self, proxy, stream, request, peer: peer, identity: identity, local: local
        ) { [weak self] in
            self?.requests[ObjectIdentifier($0)] = nil
        }
        requests[ObjectIdentifier(inbound)] = inbound
        inbound.start()
    }

    func connectionClosed(_ connection: HBONEConnection, error: HBONEError?) {
        if let error, !isOver { report(error) }
        over()
    }

    /// A tunnel that failed without a request is told here; those with requests are told by each of them.
    private func report(_ error: HBONEError) {
        switch error.code {
        case .tls, .handshakeTimedOut, .settingsTimedOut, .protocolError:
            proxy.denyEarly(.inbound, from: peer, to: local, reason: error.code.description, "\(error)")
        default: break
        }
    }

    // MARK: The end

    /// A handshake that is under way is not cut off: the peer hears that it should go elsewhere as soon as it can.
    func drain() {
        isDraining = true
        if isEstablished { connection?.drain() }
    }

    func abort(_ reason: AbortReason) {
        guard !isOver else { return }
        for request in Array(requests.values) { request.abort(reason) }
        isOver = true
        connection?.close()
        over()
    }

    func recheck(_ workload: Workload, _ state: MeshState) {
        for request in Array(requests.values) { request.recheck(workload, state) }
    }

    /// A tunnel without requests has a limit of its own.
    func closeIfIdle(for limit: UInt64, at now: UInt64) {
        for request in Array(requests.values) { request.closeIfIdle(for: limit, at: now) }
    }

    private func deny(_ reason: String, _ text: String) {
        proxy.denyEarly(.inbound, from: peer, to: local, reason: reason, text)
        over()
    }

    private func over() {
        isOver = true
        leaveHalfOpen()
        proxy.worker.chains.remove(self, chain)
        if let descriptor = descriptor.take() { Sockets.resetOnClose(descriptor.raw) }
        connection = nil
        proxy.ended(self)
    }

    var listing: [PodProxy.Listing.Entry] { requests.values.compactMap(\.listing) }
}
