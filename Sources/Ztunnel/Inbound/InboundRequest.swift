import Addressing
import HBONE
import LinuxNetwork
import Mesh
import Observability

/// One CONNECT of a peer: checked, allowed or refused, and taken to the application from the client's own address.
///
/// The order of the checks and the status of each refusal are Istio's: 400 for what is malformed or not ours, 503 for
/// what cannot be reached, 401 for what policy refuses. 200 is sent when the application has accepted.
final class InboundRequest: HBONEStreamDelegate, TimerHandler {
    private unowned let proxy: PodProxy
    private let stream: HBONEStream
    private let request: ConnectRequest
    private let peer: Endpoint
    private let identity: SPIFFEIdentity
    private let local: Endpoint
    private let startedAt: UInt64
    private unowned let tunnel: InboundTunnel
    private let onEnd: (InboundRequest) -> Void

    private var report: ConnectionReport?
    private var question: AuthorizationRequest?
    /// Told by the peer or found by the port; for the config dump.
    private var service: Service?
    private var dial: Dial?
    private var isAccepted = false
    private var isOver = false
    /// Counted by the pod's limiter.
    private var isCounted = false
    /// While the application may not know of the connection yet, because the client was expected to speak first.
    private var silence: TimerID?

    init(
        _ tunnel: InboundTunnel, _ proxy: PodProxy, _ stream: HBONEStream, _ request: ConnectRequest, peer: Endpoint,
        identity: SPIFFEIdentity, local: Endpoint, onEnd: @escaping (InboundRequest) -> Void
    ) {
        self.proxy = proxy
        self.stream = stream
        self.request = request
        self.peer = peer
        self.identity = identity
        self.local = local
        self.tunnel = tunnel
        self.onEnd = onEnd
        startedAt = proxy.loop.now
    }

    func start() {
        // From now on a client that gives up before it is answered is heard of.
        stream.delegate = self
        let state = proxy.services.store.snapshot()
        guard let workload = proxy.localWorkload(in: state) else {
            return refuse(InboundRejection(.unknownLocalWorkload, proxy.unknownWorkloadText))
        }
        let asked = InboundFacts.Asked(request)
        if let known = tunnel.memory.recall(asked, of: workload, at: state.revision) { return take(known) }
        switch state.inboundTarget(
            authority: request.authority, localWorkload: workload, localAddress: local.address,
            illegalPorts: proxy.services.configuration.illegalPorts,
            localhostTunnel: proxy.services.configuration.localhostApplicationTunnel)
        {
        case .failure(let rejection): refuse(rejection)
        case .success(let target):
            let facts = InboundFacts(
                asked, target, workload, state, proxy, peer: peer, identity: identity, local: local)
            tunnel.memory.keep(facts)
            take(facts)
        }
    }

    private func take(_ facts: InboundFacts) {
        service = facts.service
        var record = facts.record
        record.trace = request.traceparent.flatMap(TraceParent.init(headerValue:)).map(AccessRecord.Trace.init)
        report = ConnectionReport(
            log: proxy.services.accessLog, counters: facts.counters, record: record, startedAt: startedAt)
        report?.facts = facts

        question = facts.question
        proxy.services.policyLog.note(facts.verdict, on: facts.question)
        if let denial = facts.verdict.denial {
            return refuse(InboundRejection(.deniedByPolicy, denial))
        }
        do throws(ConnectionLimiter.Refusal) {
            try proxy.limiter.take(at: proxy.loop.now)
            isCounted = true
        } catch {
            proxy.countLimited(facts.workload, error)
            return refuse(InboundRejection(.overLimit, error.description))
        }
        let target = facts.target
        let header = target.proxyProtocolDestination.map {
            ProxyHeader(source: peer, destination: $0, clientIdentity: identity).encoded
        }
        let spoofed = target.keepsSourceAddress ? proxy.spoofed(peer.address, to: target.dial.address) : nil
        let dial = Dial(loop: proxy.loop, to: target.dial, from: spoofed) { [weak self] in
            self?.dialed($0, header, facts.reply)
        }
        dial.mayGoUnbound = proxy.services.configuration.keepsOriginalSource == nil
        dial.clientSpeaksFirst = facts.clientSpeaksFirst
        self.dial = dial
        dial.start(from: proxy.stock, timeout: proxy.services.configuration.connectTimeout)
    }

    /// - Parameters:
    ///   - header: What the application is told first of the connection, where it wants to be.
    ///   - fields: Of the answer.
    private func dialed(
        _ result: Result<DialedSocket, Dial.Failure>, _ header: [UInt8]?, _ fields: [HeaderField]
    ) {
        let isHeldBack = dial?.clientSpeaksFirst == true
        dial = nil
        guard !isOver else { return }
        switch result {
        case .failure(let failure): refuse(InboundRejection(.connectFailed, failure.description))
        case .success(let socket):
            if let header, !socket.send(header) {
                return refuse(InboundRejection(.connectFailed, "the application does not take the PROXY header"))
            }
            guard stream.accept(headers: fields, delegate: self) else {
                return end(ConnectionReport.Failure(text: "the client has gone", flag: .none))
            }
            isAccepted = true
            if isHeldBack { silence = proxy.loop.schedule(after: Dial.heldBack, self) }
            stream.relay(with: socket.take(), meter: report)
        }
    }

    func streamEnded(_ stream: HBONEStream, _ end: StreamEnd) {
        dial?.cancel()
        self.end(end.error.map { ConnectionReport.Failure(text: "\($0)", flag: .none) })
    }

    /// Nothing has come from the client: perhaps it waits for the application, which has to know of it then.
    func timerFired(tag: Int) {
        silence = nil
        if report?.hasMoved == false { stream.acknowledge() }
    }

    // MARK: Refusals and the end

    func recheck(_ workload: Workload, _ state: MeshState) {
        guard let question, state.authorize(question, for: workload).endsOpenConnection else { return }
        abort(.policyChange)
    }

    func closeIfIdle(for limit: UInt64, at now: UInt64) {
        if report?.isIdle(for: limit, at: now) == true { abort(.idle) }
    }

    func abort(_ reason: AbortReason) {
        guard !isOver else { return }
        report?.finish(ConnectionReport.Failure(text: reason.text, flag: reason.flag))
        dial?.cancel()
        stream.delegate = nil
        if isAccepted {
            stream.abort(reason.error)
        } else {
            stream.reject(status: reason == .policyChange ? 401 : 503)
        }
        end(nil)
    }

    private func refuse(_ rejection: InboundRejection) {
        // The reason is known here; the stream's own end has nothing to add.
        stream.delegate = nil
        stream.reject(status: rejection.status)
        if report == nil {
            proxy.denyEarly(
                .inbound, from: peer, to: local, reason: rejection.code.rawValue, rejection.message)
        }
        let flag: TelemetryLabels.ResponseFlag =
            switch rejection.code {
            case .deniedByPolicy: .denied
            case .overLimit: .limited
            default: .connectFailure
            }
        end(ConnectionReport.Failure(text: rejection.message, flag: flag))
    }

    var listing: PodProxy.Listing.Entry? {
        question.map {
            .init(
                inbound: true, source: peer.description, originalDestination: service?.hostname,
                actualDestination: $0.destination.description, protocol: "HBONE")
        }
    }

    private func end(_ failure: ConnectionReport.Failure?) {
        guard !isOver else { return }
        isOver = true
        if let silence { proxy.loop.cancel(silence) }
        silence = nil
        if isCounted { proxy.limiter.give() }
        report?.finish(failure)
        report = nil
        onEnd(self)
    }
}
