import Addressing
import DNS
import HBONE
import LinuxNetwork
import Mesh
import Observability

/// A connection of a pod that its proxy keeps alive until it is over.
protocol PodConnection: AnyObject {
    /// Ends it now. It reports itself over before this returns or soon after.
    func abort(_ reason: AbortReason)
    /// Ends what nothing has moved on for so long, in nanoseconds.
    func closeIfIdle(for limit: UInt64, at now: UInt64)
    /// What is open, for the config dump; of a tunnel each connection in it.
    var listing: [PodProxy.Listing.Entry] { get }
    /// Which side it is on, for the count of open sockets.
    var reporter: TelemetryLabels.Reporter { get }
}

extension PodConnection {
    var reporter: TelemetryLabels.Reporter { .destination }
}

/// A connection into a pod: what policy decides about, again whenever it changes.
protocol InboundConnection: PodConnection {
    /// Policy for the pod has changed, or the pod has.
    func recheck(_ workload: Workload, _ state: MeshState)
    /// Takes no more requests; those it has run on.
    func drain()
}

enum AbortReason {
    case podGone
    case policyChange
    case idle
    case certificateRevoked

    var text: String {
        switch self {
        case .podGone: "connection closed due to connection drain"
        case .policyChange: "connection closed due to policy change"
        case .idle: "connection closed because nothing moved on it for as long as APUS_IDLE_TIMEOUT says"
        case .certificateRevoked: "connection closed because the peer's certificate was revoked (CERT_REVOKED)"
        }
    }

    var flag: TelemetryLabels.ResponseFlag {
        switch self {
        case .podGone, .idle: .none
        case .policyChange: .denied
        case .certificateRevoked: .certificateRevoked
        }
    }
    var error: HBONEError { HBONEError(.closedLocally, text) }
}

/// One worker's part of a pod: its hand on the three listeners and on the stock, its tunnels and its connections.
final class PodProxy {
    struct Listing: Sendable {
        struct Entry: Sendable {
            let inbound: Bool
            let source: String
            let originalDestination: String?
            let actualDestination: String
            let `protocol`: String
        }
        let name: String
        let namespace: String
        let serviceAccount: String
        var entries: [Entry]
    }

    unowned let worker: Worker
    let pod: HandedPod
    let stock: SocketStock
    /// Only where the pod's DNS is captured and DNS is served.
    private(set) var dns: PodDNS?
    private(set) lazy var tunnels = TunnelPool(self)
    var halfOpen = HalfOpenTunnels<InboundTunnel>()
    var routesTaken = OutboundMemory()

    private var acceptors: [AcceptLoop] = []
    private var inbound: [ObjectIdentifier: any InboundConnection] = [:]
    private var outbound: [ObjectIdentifier: OutboundConnection] = [:]
    private var negotiating: [ObjectIdentifier: SocksConnection] = [:]
    private var waitingForWorkload: [ObjectIdentifier: WorkloadWait] = [:]
    private var whenDrained: (() -> Void)?
    private(set) var isDraining = false
    /// The pod's record, and of which state of the mesh.
    private var own: (revision: UInt64, workload: Workload?)?
    /// Counts the pod's inbound connections, those of the other workers too.
    let limiter: ConnectionLimiter

    var loop: EventLoop { worker.loop }
    var services: ZtunnelServices { worker.services }
    /// Lent and not copied: it is large.
    var configuration: ZtunnelConfiguration { _read { yield worker.services.configuration } }

    init(worker: Worker, pod: HandedPod) throws(SystemError) {
        self.worker = worker
        self.pod = pod
        stock = SocketStock(
            loop: worker.loop, pod: pod, waits: worker.services.metrics.stockWaits,
            limits: worker.services.configuration.silenceLimits)
        limiter = worker.services.limiters.of(pod.uid)
        do throws(SystemError) {
            if let captured = pod.captured {
                acceptors.append(
                    try AcceptLoop(loop: loop, listener: captured.outbound.raw) { [unowned self] in
                        adopt(OutboundConnection(self, $0)).start()
                    })
                acceptors.append(
                    try AcceptLoop(loop: loop, listener: captured.inboundPlaintext.raw) { [unowned self] in
                        adopt(InboundPlaintextConnection(self, $0)).start()
                    })
            }
            if let socks = pod.socks?.raw {
                acceptors.append(
                    try AcceptLoop(loop: loop, listener: socks) { [unowned self] in
                        let connection = SocksConnection(self, $0)
                        negotiating[ObjectIdentifier(connection)] = connection
                        connection.start()
                    })
            }
            if let hbone = pod.hbone?.raw {
                acceptors.append(
                    try AcceptLoop(loop: loop, listener: hbone) { [unowned self] in
                        adopt(InboundTunnel(self, $0)).start()
                    })
            }
            if let sockets = pod.dns, configuration.dnsProxyEnabled { dns = try PodDNS(self, sockets) }
        } catch {
            for acceptor in acceptors { acceptor.close() }
            throw error
        }
    }

    /// Prepared sockets come from another stock from now on.
    func restock(from pod: HandedPod) {
        stock.restock(from: pod)
        dns?.restock(from: pod)
    }

    // MARK: Connections

    private func adopt<Connection: InboundConnection>(_ connection: Connection) -> Connection {
        worker.socketsOpen(.destination).increment()
        inbound[ObjectIdentifier(connection)] = connection
        return connection
    }

    private func adopt(_ connection: OutboundConnection) -> OutboundConnection {
        worker.socketsOpen(.source).increment()
        outbound[ObjectIdentifier(connection)] = connection
        return connection
    }

    /// A connection of the pod that has said by SOCKS5 where it goes.
    func connect(_ client: consuming FileDescriptor, of peer: Endpoint?, to destination: Endpoint) {
        adopt(OutboundConnection(self, client, from: peer, to: destination, isNamed: true)).start()
    }

    /// The negotiation is over, one way or the other.
    func ended(_ connection: SocksConnection) { negotiating[ObjectIdentifier(connection)] = nil }

    /// A connection is over; it is let go when the caller returns.
    func ended(_ connection: any InboundConnection) {
        if inbound.removeValue(forKey: ObjectIdentifier(connection)) != nil {
            worker.socketsOpen(.destination).decrement()
        }
        checkDrained()
    }

    func ended(_ connection: OutboundConnection) {
        if outbound.removeValue(forKey: ObjectIdentifier(connection)) != nil {
            worker.socketsOpen(.source).decrement()
        }
        checkDrained()
    }

    private var connections: [any PodConnection] {
        Array(inbound.values) as [any PodConnection] + Array(outbound.values)
    }

    var listing: Listing {
        Listing(
            name: pod.name, namespace: pod.namespace, serviceAccount: pod.serviceAccount,
            entries: connections.flatMap(\.listing))
    }

    func meshChanged(_ change: MeshChange, _ state: MeshState) {
        if !waitingForWorkload.isEmpty, let workload = localWorkload(in: state) {
            for wait in Array(waitingForWorkload.values) { wait.resolve(workload) }
        }
        // Only what policy has let in, and only where the change is about this pod: a push about others costs two lookups.
        guard !inbound.isEmpty, change.canConcernAuthorization, let workload = localWorkload(in: state),
            change.concernsAuthorization(of: workload)
        else { return }
        for connection in Array(inbound.values) { connection.recheck(workload, state) }
    }

    /// Lets go of what is only kept to save time.
    func trim() { routesTaken.forget() }

    func closeIdle(for limit: UInt64) {
        for connection in connections { connection.closeIfIdle(for: limit, at: loop.now) }
    }

    // MARK: The pod's own workload

    func localWorkload(in state: MeshState) -> Workload? {
        if let own, own.revision == state.revision { return own.workload }
        let workload = state.workload(namespace: pod.namespace, name: pod.name, serviceAccount: pod.serviceAccount)
        own = (state.revision, workload)
        return workload
    }

    /// The pod's record, once the control plane has told about it; `nil` when it does not in time.
    func withLocalWorkload(_ body: @escaping (Workload?) -> Void) {
        if let workload = localWorkload(in: services.store.snapshot()) { return body(workload) }
        let wait = WorkloadWait(self, body)
        waitingForWorkload[ObjectIdentifier(wait)] = wait
        wait.timer = loop.schedule(after: configuration.workloadTimeout, wait)
    }

    fileprivate func finished(_ wait: WorkloadWait) { waitingForWorkload[ObjectIdentifier(wait)] = nil }

    var unknownWorkloadText: String {
        "failed to fetch information about local workload: \(pod.serviceAccount).\(pod.namespace) (\(pod.name))"
    }

    /// Who asks, where names are resolved for the pod.
    /// - Parameter searchDomains: Those of the pod's resolv.conf; the cluster's when they are not known.
    func dnsClient(of workload: Workload, searchDomains: [String]?) -> DNSClient {
        DNSClient(
            namespace: workload.namespace, network: workload.network, searchDomains: searchDomains,
            clusterDomain: configuration.clusterDomain, ipv6: configuration.ipv6Enabled,
            preferredNamespace: configuration.preferredServiceNamespace)
    }

    /// Moves bytes between a captured client and the server it was taken to, counted by its report.
    func relay(
        _ client: consuming FileDescriptor, _ server: DialedSocket, _ report: ConnectionReport,
        completion: @escaping (ConnectionReport.Failure?) -> Void
    ) -> PlainRelay {
        let relay = PlainRelay(loop: loop) { forward, count in
            if forward { report.requestBytes(count) } else { report.responseBytes(count) }
        } completion: {
            completion($0.error.map { ConnectionReport.Failure(text: $0.description, flag: .none) })
        }
        relay.start(client, server.take())
        return relay
    }

    /// The address to connect to the application from: the client's, unless that is not wanted. A connection to oneself
    /// keeps its natural source: two sockets of one address pair cannot tell each other.
    func spoofed(_ client: IPAddress, to application: IPAddress) -> IPAddress? {
        let keeps = pod.mayKeepClientAddress && services.configuration.keepsOriginalSource != false
        return keeps && client != application ? client : nil
    }

    func countLimited(_ workload: Workload, _ refusal: ConnectionLimiter.Refusal) {
        services.metrics.limited.with([workload.namespace, workload.name, refusal.reason]).add(1)
    }

    /// Reports a connection about which too little is known for a full account.
    func denyEarly(
        _ direction: AccessRecord.Direction, from source: Endpoint?, to destination: Endpoint?, reason: String,
        _ text: String
    ) {
        services.metrics.denied.with([direction.rawValue, reason]).add(1)
        services.accessLog.write(
            AccessRecord(
                kind: .failed, source: .init(address: source?.description ?? "unknown"),
                destination: .init(address: destination?.description ?? "unknown"), direction: direction, error: text))
    }

    // MARK: The end

    /// The pod is being ended: it serves on, but peers are told to take their next connections elsewhere, and the tunnels
    /// it has go when their connections are over.
    func windDown() {
        for connection in Array(inbound.values) { connection.drain() }
        tunnels.drain()
    }

    /// No new connections; idle tunnels go, open connections run on. `done` is called once, when the last is over.
    func drain(done: @escaping () -> Void) {
        isDraining = true
        whenDrained = done
        for acceptor in acceptors { acceptor.close() }
        for connection in Array(negotiating.values) { connection.close() }
        dns?.drain()
        tunnels.drain()
        for connection in Array(inbound.values) { connection.drain() }
        checkDrained()
    }

    /// The DNS proxy has answered what it had taken.
    func dnsIsIdle() { checkDrained() }

    private func checkDrained() {
        guard isDraining, inbound.isEmpty, outbound.isEmpty, dns?.isIdle ?? true, let done = whenDrained else { return }
        whenDrained = nil
        dns?.close()
        tunnels.close()
        stock.close()
        done()
    }

    /// Ends everything at once.
    func stop() {
        for acceptor in acceptors { acceptor.close() }
        for connection in Array(negotiating.values) { connection.close() }
        for connection in connections { connection.abort(.podGone) }
        for wait in Array(waitingForWorkload.values) { wait.resolve(nil) }
        dns?.close()
        tunnels.close()
        stock.close()
        let done = whenDrained
        whenDrained = nil
        done?()
    }
}

/// A connection's wait for the pod's record.
private final class WorkloadWait: TimerHandler {
    private unowned let proxy: PodProxy
    private var body: ((Workload?) -> Void)?
    var timer: TimerID?

    init(_ proxy: PodProxy, _ body: @escaping (Workload?) -> Void) {
        self.proxy = proxy
        self.body = body
    }

    func timerFired(tag: Int) {
        timer = nil
        resolve(nil)
    }

    func resolve(_ workload: Workload?) {
        if let timer { proxy.loop.cancel(timer) }
        timer = nil
        proxy.finished(self)
        let body = body
        self.body = nil
        body?(workload)
    }
}
