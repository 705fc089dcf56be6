import Addressing
import Glibc
import HBONE
import LinuxNetwork
import Mesh
import Observability

/// A connection that the pod's application opened and that was captured: finds out where it goes and takes it there.
///
///     accepted -> the pod's record -> route -> dial | tunnel -> relay -> over
final class OutboundConnection: PodConnection, TunnelRequestDelegate {
    private enum Stage {
        case starting
        case dialing(Dial)
        case plain(PlainRelay)
        case requesting(TunnelRequest)
        case tunnelled(HBONEStream)
        case over
    }

    private unowned let proxy: PodProxy
    private var client: FileDescriptor?
    private let clientAddress: Endpoint?
    private let destination: Endpoint?
    private let startedAt: UInt64
    private var stage = Stage.starting
    private var report: ConnectionReport?
    private var route: Route?
    /// What is asked of the peer, to be asked again when the tunnel breaks under the question.
    private var question: (request: ConnectRequest, key: TunnelKey)?
    private var attempts = 0
    private var isAnswered = false
    private static let maximumAttempts = 3

    init(_ proxy: PodProxy, _ accepted: consuming Sockets.Accepted) {
        self.proxy = proxy
        clientAddress = accepted.peer
        let descriptor = accepted.takeDescriptor()
        destination =
            Sockets.originalDestination(descriptor.raw) ?? Sockets.localEndpoint(descriptor.raw)
        client = consume descriptor
        startedAt = proxy.loop.now
    }

    func start() {
        guard let destination, let clientAddress else { return over() }
        // To ztunnel's own ports on loopback: the connection would come back to us for ever. An address of the pod's own
        // that was not captured ends here too.
        if destination.address.isLoopback || destination.port == MeshPorts.outbound,
            MeshPorts.illegal.contains(destination.port)
        {
            return deny("recursive", "attempted recursive call to ourselves: \(destination)")
        }
        proxy.withLocalWorkload { [self] workload in
            guard case .starting = stage else { return }
            guard let workload else { return deny("unknown_workload", proxy.unknownWorkloadText) }
            take(from: workload, clientAddress, to: destination)
        }
    }

    // MARK: The way

    private func take(from workload: Workload, _ source: Endpoint, to destination: Endpoint) {
        let state = proxy.services.store.snapshot()
        let route: Route
        do {
            route = try state.route(
                from: workload, sourceAddress: source.address, to: destination, random: &proxy.worker.random)
        } catch {
            return deny("no_route", "\(error)")
        }
        self.route = route
        let own = Party(workload: workload, principal: workload.identity)
        switch route {
        case .passthrough(let endpoint):
            open(own.anonymous, Party(), endpoint, nil, nil, source)
            dial(endpoint)
        case .tcp(let endpoint, let upstream):
            let peer = Party(workload: upstream.workload, principal: upstream.workload.identity)
            open(own.anonymous, peer, endpoint, nil, upstream.service, source)
            dial(endpoint)
        case .hbone(let hbone):
            let peer = Party(workload: hbone.workload, principal: hbone.workload.identity)
            open(own, peer, hbone.dial, hbone.authority.description, hbone.service, source)
            request(hbone, from: workload, source, state)
        case .doubleHBONE(let double):
            deny(
                "unsupported_route",
                "\(destination) is in another network behind gateway \(double.dial); connections between networks "
                    + "are not served yet")
        }
    }

    private func open(
        _ source: Party, _ peer: Party, _ nextHop: Endpoint, _ authority: String?, _ service: Service?,
        _ sourceAddress: Endpoint
    ) {
        let isTunnel = authority != nil
        let counters = proxy.worker.counters.counters(
            .source, source: source, destination: peer, service: service, security: isTunnel ? .mutualTLS : .unknown)
        let record = AccessRecord(
            kind: .complete, source: .init(sourceAddress, source, mutualTLS: isTunnel),
            destination: .init(nextHop, peer, authority: authority, service: service, mutualTLS: isTunnel),
            direction: .outbound)
        report = ConnectionReport(
            log: proxy.services.accessLog, counters: counters, record: record, startedAt: startedAt)
    }

    private func dial(_ endpoint: Endpoint) {
        let dial = Dial(loop: proxy.loop, to: endpoint, from: nil) { [weak self] result in self?.dialed(result) }
        stage = .dialing(dial)
        dial.start(from: proxy.stock, timeout: proxy.configuration.connectTimeout)
    }

    private func dialed(_ result: Result<DialedSocket, Dial.Failure>) {
        guard case .dialing = stage, let report else { return }
        switch result {
        case .failure(let failure):
            end(ConnectionReport.Failure(text: failure.description, flag: .connectFailure))
        case .success(let socket):
            guard let client = client.take() else { return over() }
            let relay = PlainRelay(loop: proxy.loop) { forward, count in
                if forward { report.requestBytes(count) } else { report.responseBytes(count) }
            } completion: { [weak self] outcome in
                self?.end(
                    outcome.error.map { ConnectionReport.Failure(text: $0.description, flag: .none) })
            }
            stage = .plain(relay)
            relay.start(client, socket.take())
        }
    }

    private func request(_ hbone: HBONERoute, from workload: Workload, _ source: Endpoint, _ state: MeshState) {
        let request = ConnectRequest(
            authority: hbone.authority.description, baggage: Baggage(workload).headerValue,
            forwarded: Forwarded(source: source, host: hbone.service?.hostname).headerValue,
            traceparent: TraceParent(random: &proxy.worker.random).headerValue)
        question = (
            request,
            TunnelKey(identity: workload.identity, destination: hbone.dial, expected: hbone.expectedIdentities)
        )
        ask()
    }

    private func ask() {
        guard let question else { return }
        attempts += 1
        let waiting = TunnelRequest(question.request, early: client?.raw ?? -1, delegate: self)
        stage = .requesting(waiting)
        proxy.tunnels.open(waiting, through: question.key)
    }

    func tunnelRequest(_ request: TunnelRequest, opened stream: HBONEStream) {
        guard case .requesting = stage else { return stream.abort(AbortReason.podGone.error) }
        stage = .tunnelled(stream)
    }

    func tunnelRequest(_ request: TunnelRequest, answered reply: ConnectReply) {
        guard case .tunnelled(let stream) = stage, let report else { return }
        isAnswered = true
        guard reply.isSuccess else {
            let isDenial = reply.status == 401
            return end(
                ConnectionReport.Failure(
                    text: isDenial
                        ? "denied by the peer: http status: 401" : "refused by the peer: http status: \(reply.status)",
                    flag: isDenial ? .denied : .connectFailure))
        }
        guard let client = client.take() else { return over() }
        stream.relay(with: client, meter: report)
    }

    func tunnelRequest(_ request: TunnelRequest, ended failure: TunnelFailure?) {
        // A peer that was restarted takes its tunnels along. Until it answers, nothing of the application's has been
        // read, so another tunnel can carry the connection as if the first had never been.
        if let failure, failure.mayRetry, !isAnswered, attempts < Self.maximumAttempts, !proxy.isDraining {
            if case .over = stage { return }
            return ask()
        }
        end(failure.map { ConnectionReport.Failure(text: $0.text, flag: $0.flag) })
    }

    // MARK: The end

    func abort(_ reason: AbortReason) {
        switch stage {
        case .dialing(let dial): dial.cancel()
        case .plain(let relay):
            // Ends through the relay's completion; what it reports is the reason given here.
            report?.finish(ConnectionReport.Failure(text: reason.text, flag: .none))
            stage = .over
            relay.abort()
        case .requesting(let request): request.cancel()
        case .tunnelled(let stream):
            report?.finish(ConnectionReport.Failure(text: reason.text, flag: .none))
            stage = .over
            stream.abort(reason.error)
        case .starting, .over: break
        }
        end(ConnectionReport.Failure(text: reason.text, flag: .none))
    }

    func meshChanged(_ change: MeshChange, _ state: MeshState) {}

    private func deny(_ reason: String, _ text: String) {
        proxy.denyEarly(.outbound, from: clientAddress, to: destination, reason: reason, text)
        over()
    }

    private func end(_ failure: ConnectionReport.Failure?) {
        report?.finish(failure)
        over()
    }

    private func over() {
        stage = .over
        report = nil
        // What the application has sent is not read: closing with it unread resets, and it learns that it failed.
        if let client = client.take() { Sockets.resetOnClose(client.raw) }
        proxy.ended(self)
    }

    var listing: PodProxy.Listing.Entry? {
        guard let route, let clientAddress else { return nil }
        let (actual, kind) =
            switch route {
            case .passthrough(let endpoint), .tcp(let endpoint, _): (endpoint, "TCP")
            case .hbone(let hbone): (hbone.dial, "HBONE")
            case .doubleHBONE(let double): (double.dial, "DOUBLE-HBONE")
            }
        return .init(
            inbound: false, source: clientAddress.description, originalDestination: destination?.description,
            actualDestination: actual.description, protocol: kind)
    }
}

extension Party {
    /// The same workload where no certificate proves it.
    var anonymous: Party { Party(workload: workload, principal: nil, baggage: baggage) }
}

extension Optional where Wrapped: ~Copyable {
    /// Moves the value out and leaves `nil`.
    mutating func take() -> Wrapped? {
        let value = consume self
        self = nil
        return value
    }
}
