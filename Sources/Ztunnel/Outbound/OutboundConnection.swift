import Addressing
import HBONE
import LinuxNetwork
import Mesh
import Observability

/// A connection that the pod's application opened and that was captured: finds out where it goes and takes it there.
///
///     accepted -> the pod's record -> route -> dial | tunnel -> relay -> over
///                                       ^          |
///                                       +----------+  another endpoint, while nothing has been relayed
final class OutboundConnection: PodConnection {
    enum Stage {
        case starting
        /// The endpoint's host name is being looked up, or the control plane asked for what is not known.
        case resolving
        case dialing(Dial)
        case plain(PlainRelay)
        case requesting(TunnelRequest)
        case tunnelled(HBONEStream)
        case inner(InnerTunnel)
        case over
    }

    unowned let proxy: PodProxy
    var client: FileDescriptor?
    let clientAddress: Endpoint?
    let destination: Endpoint?
    /// Whether the application named the destination (SOCKS5) and was not captured on its way there.
    private let isNamed: Bool
    let startedAt: UInt64
    var stage = Stage.starting
    var report: ConnectionReport?
    var route: Route?
    var attempts: Attempts
    /// What is asked of the peer, to be asked again when the tunnel breaks under the question.
    var question: (request: ConnectRequest, key: TunnelKey)?
    var isAnswered = false
    /// Ties the lines of both ends together; never taken from the application.
    let trace: TraceParent
    var reporter: TelemetryLabels.Reporter { .source }
    /// Host names of endpoints that were looked up.
    var resolved: [String: [IPAddress]] = [:]
    /// Names the control plane was asked for.
    var asked: Set<MeshName> = []

    convenience init(_ proxy: PodProxy, _ accepted: consuming Sockets.Accepted) {
        let peer = accepted.peer
        let descriptor = accepted.takeDescriptor()
        let destination = Sockets.originalDestination(descriptor.raw) ?? Sockets.localEndpoint(descriptor.raw)
        self.init(proxy, descriptor, from: peer, to: destination, isNamed: false)
    }

    /// - Parameter isNamed: Whether the application named the destination, by SOCKS5.
    init(
        _ proxy: PodProxy, _ client: consuming FileDescriptor, from peer: Endpoint?, to destination: Endpoint?,
        isNamed: Bool
    ) {
        self.proxy = proxy
        clientAddress = peer
        self.destination = destination
        self.isNamed = isNamed
        self.client = consume client
        startedAt = proxy.loop.now
        attempts = Attempts(at: startedAt)
        trace = TraceParent(random: &proxy.worker.random)
    }

    func start() {
        guard let destination, clientAddress != nil else { return over() }
        proxy.withLocalWorkload { [self] workload in
            guard case .starting = stage else { return }
            guard !isCallToOurselves(destination, workload) else {
                return deny("recursive", "attempted recursive call to ourselves: \(destination)")
            }
            guard let workload else { return deny("unknown_workload", proxy.unknownWorkloadText) }
            seek(from: workload)
        }
    }

    /// To ztunnel's own ports on loopback or on the pod's own address: the connection would come back to us for ever. The
    /// ports of other hosts are theirs. That the address has accepted the connection says something only where capture
    /// translates: where it does not, what is captured is accepted at its destination as well.
    private func isCallToOurselves(_ destination: Endpoint, _ workload: Workload?) -> Bool {
        guard proxy.services.configuration.illegalPorts.contains(destination.port) else { return false }
        if destination.address.isLoopback || destination.address == clientAddress?.address { return true }
        if isNamed { return workload?.addresses.contains(destination.address) ?? true }
        guard let raw = client?.raw, let local = Sockets.localEndpoint(raw) else { return true }
        guard local.address == destination.address else { return false }
        return workload?.addresses.contains(destination.address) ?? true
    }

    // MARK: The end

    func abort(_ reason: AbortReason) {
        let failure = ConnectionReport.Failure(text: reason.text, flag: reason.flag)
        switch stage {
        case .dialing(let dial): dial.cancel()
        case .plain(let relay):
            // Ends through the relay's completion; what it reports is the reason given here.
            report?.finish(failure)
            stage = .over
            relay.abort()
        case .requesting(let request): request.cancel()
        case .tunnelled(let stream):
            report?.finish(failure)
            stage = .over
            stream.abort(reason.error)
        case .inner(let tunnel):
            report?.finish(failure)
            stage = .over
            tunnel.abort(reason.error)
        case .starting, .resolving, .over: break
        }
        end(failure)
    }

    func closeIfIdle(for limit: UInt64, at now: UInt64) {
        if report?.isIdle(for: limit, at: now) == true { abort(.idle) }
    }

    func deny(_ reason: String, _ text: String) {
        proxy.denyEarly(.outbound, from: clientAddress, to: destination, reason: reason, text)
        over()
    }

    func end(_ failure: ConnectionReport.Failure?) {
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

    var listing: [PodProxy.Listing.Entry] {
        guard let route, let clientAddress else { return [] }
        let (actual, kind) =
            switch route {
            case .passthrough(let endpoint), .tcp(let endpoint, _): (endpoint, "TCP")
            case .hbone(let hbone): (hbone.dial, "HBONE")
            case .doubleHBONE(let double): (double.dial, "DOUBLE-HBONE")
            }
        return [
            .init(
                inbound: false, source: clientAddress.description, originalDestination: destination?.description,
                actualDestination: actual.description, protocol: kind)
        ]
    }
}

extension Optional where Wrapped: ~Copyable {
    /// Moves the value out and leaves `nil`.
    mutating func take() -> Wrapped? {
        let value = consume self
        self = nil
        return value
    }
}
