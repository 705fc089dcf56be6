import Addressing
import HBONE
import LinuxNetwork
import Mesh
import Observability

/// A connection from outside the mesh to the pod, captured on its way in: policy is asked, then the application gets it,
/// from the client's own address.
final class InboundPlaintextConnection: PodConnection {
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
        guard !MeshPorts.illegal.contains(destination.port) else {
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
        if let denial = state.authorize(question, for: workload).denial {
            return end(ConnectionReport.Failure(text: denial, flag: .denied))
        }
        // A connection to oneself keeps its natural source: two sockets of one address pair cannot tell each other.
        let spoofed = clientAddress.address == destination.address ? nil : clientAddress.address
        let dial = Dial(loop: proxy.loop, to: destination, from: spoofed) { [weak self] in self?.dialed($0) }
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
            stage = .relaying(relay)
            relay.start(client, socket.take())
        }
    }

    // MARK: Changes and the end

    func meshChanged(_ change: MeshChange, _ state: MeshState) {
        guard let question, let workload = proxy.localWorkload(in: state),
            change.concernsAuthorization(of: workload), !state.authorize(question, for: workload).isAllowed
        else { return }
        abort(.policyChange)
    }

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
        if let client = client.take() { Sockets.resetOnClose(client.raw) }
        proxy.ended(self)
    }

    var listing: PodProxy.Listing.Entry? {
        guard let clientAddress, let destination else { return nil }
        return .init(
            inbound: true, source: clientAddress.description, originalDestination: nil,
            actualDestination: destination.description, protocol: "TCP")
    }
}
