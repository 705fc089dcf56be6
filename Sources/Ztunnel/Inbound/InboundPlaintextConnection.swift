import Addressing
import HBONE
import LinuxNetwork
import Mesh
import Observability

/// A connection from outside the mesh to the pod, captured on its way in: policy is asked, then the application gets it,
/// from the client's own address.
final class InboundPlaintextConnection: InboundConnection {
    private enum Stage {
        case starting
        case dialing(Dial)
        case relaying(PlainRelay)
        case over
    }

    private unowned let proxy: PodProxy
    private var client: FileDescriptor?
    private let clientAddress: Endpoint?
    private let destination: Endpoint?
    private let startedAt: UInt64
    private var stage = Stage.starting
    private var report: ConnectionReport?
    /// Counted by the pod's limiter.
    private var isCounted = false
    /// What policy was asked, to be asked again when it changes.
    private var question: AuthorizationRequest?

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
        guard let destination, clientAddress != nil else { return over() }
        guard !proxy.services.configuration.illegalPorts.contains(destination.port) else {
            return deny("recursive", "attempted recursive call to ourselves: \(destination)")
        }
        proxy.withLocalWorkload { [self] workload in
            guard case .starting = stage else { return }
            guard let workload else { return deny("unknown_workload", proxy.unknownWorkloadText) }
            take(to: workload)
        }
    }

    private func take(to workload: Workload) {
        guard let destination, let clientAddress else { return over() }
        let state = proxy.services.store.snapshot()
        let source = Party(workload: state.workload(at: clientAddress.address))
        let own = Party(workload: workload, principal: workload.identity)
        let service = state.inboundService(of: workload, port: destination.port, forwardedHost: nil)
        let counters = proxy.worker.counters.counters(
            .destination, source: source, destination: own, service: service, security: .unknown)
        let record = AccessRecord(
            kind: .complete, source: .init(clientAddress, source, mutualTLS: false),
            destination: .init(destination, own, authority: nil, service: service, mutualTLS: false),
            direction: .inbound)
        report = ConnectionReport(
            log: proxy.services.accessLog, counters: counters, record: record, startedAt: startedAt)
        // Registered for changes before it is asked the first time, so that no change can slip between.
        let question = AuthorizationRequest(
            sourceIdentity: nil, sourceAddress: clientAddress.address, destination: destination)
        self.question = question
        let verdict = state.authorize(question, for: workload)
        proxy.services.policyLog.note(verdict, on: question)
        if let denial = verdict.denial {
            return end(ConnectionReport.Failure(text: denial, flag: .denied))
        }
        do throws(ConnectionLimiter.Refusal) {
            try proxy.limiter.take(at: proxy.loop.now)
            isCounted = true
        } catch {
            proxy.countLimited(workload, error)
            return end(ConnectionReport.Failure(text: error.description, flag: .limited))
        }
        let spoofed = proxy.spoofed(clientAddress.address, to: destination.address)
        let dial = Dial(loop: proxy.loop, to: destination, from: spoofed) { [weak self] in self?.dialed($0) }
        dial.mayGoUnbound = proxy.services.configuration.keepsOriginalSource == nil
        stage = .dialing(dial)
        dial.start(from: proxy.stock, timeout: proxy.services.configuration.connectTimeout)
    }

    private func dialed(_ result: Result<DialedSocket, Dial.Failure>) {
        guard case .dialing = stage, let report else { return }
        switch result {
        case .failure(let failure):
            end(ConnectionReport.Failure(text: failure.description, flag: .connectFailure))
        case .success(let socket):
            guard let client = client.take() else { return over() }
            stage = .relaying(
                proxy.relay(client, socket, report) { [weak self] in self?.end($0) })
        }
    }

    // MARK: Changes and the end

    func recheck(_ workload: Workload, _ state: MeshState) {
        guard let question, state.authorize(question, for: workload).endsOpenConnection else { return }
        abort(.policyChange)
    }

    func drain() {}

    func abort(_ reason: AbortReason) {
        let failure = ConnectionReport.Failure(text: reason.text, flag: reason.flag)
        switch stage {
        case .dialing(let dial): dial.cancel()
        case .relaying(let relay):
            report?.finish(failure)
            stage = .over
            relay.abort()
        case .starting, .over: break
        }
        end(failure)
    }

    func closeIfIdle(for limit: UInt64, at now: UInt64) {
        if report?.isIdle(for: limit, at: now) == true { abort(.idle) }
    }

    private func deny(_ reason: String, _ text: String) {
        proxy.denyEarly(.inbound, from: clientAddress, to: destination, reason: reason, text)
        over()
    }

    private func end(_ failure: ConnectionReport.Failure?) {
        report?.finish(failure)
        over()
    }

    private func over() {
        stage = .over
        report = nil
        if isCounted { proxy.limiter.give() }
        isCounted = false
        if let client = client.take() { Sockets.resetOnClose(client.raw) }
        proxy.ended(self)
    }

    var listing: [PodProxy.Listing.Entry] {
        guard let clientAddress, let destination else { return [] }
        return [
            .init(
                inbound: true, source: clientAddress.description, originalDestination: nil,
                actualDestination: destination.description, protocol: "TCP")
        ]
    }
}
