import DNS
import Foundation
import LinuxNetwork
import Logging
import Mesh
import Observability

/// What all workers share. Safe to use from any thread. One object, since every connection asks it many times.
final class ZtunnelServices: Sendable {
    let configuration: ZtunnelConfiguration
    let store: MeshStore
    let contexts: CertificateContexts
    let metrics: ConnectionMetrics
    let dnsMetrics: DNSMetrics
    let accessLog: AccessLog
    let limiters = ConnectionLimiters()
    let health = EndpointHealth()
    let policyLog: PolicyLog
    let logger: Logger
    /// Where the mesh is asked for by name.
    let demand: (any MeshDemand)?
    /// Where peers' certificates can be revoked.
    let revocation: RevocationMonitor?
    let revocationMetrics: RevocationMetrics?

    init(
        configuration: ZtunnelConfiguration, store: MeshStore, contexts: CertificateContexts,
        metrics: ConnectionMetrics, dnsMetrics: DNSMetrics, accessLog: AccessLog, policyLog: PolicyLog, logger: Logger,
        demand: (any MeshDemand)?, revocation: RevocationMonitor?, revocationMetrics: RevocationMetrics?
    ) {
        self.configuration = configuration
        self.store = store
        self.contexts = contexts
        self.metrics = metrics
        self.dnsMetrics = dnsMetrics
        self.accessLog = accessLog
        self.policyLog = policyLog
        self.logger = logger
        self.demand = demand
        self.revocation = revocation
        self.revocationMetrics = revocationMetrics
    }
}

/// One thread of the data path with the pods' connections that it took. Nothing in it is shared with other threads.
final class Worker {
    let loop: EventLoop
    let services: ZtunnelServices
    let counters: CounterCache
    /// Tunnels in both directions, to be found when a peer's certificate is revoked.
    let chains: ChainIndex
    var random = FastRandom()
    /// Addresses of hosts that workloads name instead of having addresses.
    private(set) lazy var hosts = HostResolver(loop: loop, ipv6: services.configuration.ipv6Enabled, files: files)
    /// ztunnel's own resolv.conf and hosts file.
    private(set) lazy var files = HostFiles()

    private let sourceSockets: Gauge
    private let destinationSockets: Gauge
    private var pods: [String: PodProxy] = [:]
    private var draining: [ObjectIdentifier: PodProxy] = [:]
    private var awaited: [UInt64: RemoteWait<Result<CertificateContexts.Pair, any Error>>] = [:]
    private var demanded: [UInt64: RemoteWait<Bool>] = [:]
    private var nextAwaited: UInt64 = 0
    /// How the answers of other threads come back here.
    private let remote: EventLoopRemote
    private let box: WorkerBox
    private var idleWatch: IdleWatch?

    init(loop: EventLoop, services: ZtunnelServices) {
        self.loop = loop
        self.services = services
        counters = CounterCache(services.metrics)
        chains = ChainIndex(services.revocation, services.revocationMetrics)
        sourceSockets = services.metrics.socketsOpen(.source)
        destinationSockets = services.metrics.socketsOpen(.destination)
        remote = loop.remote
        box = WorkerBox()
        box.worker = self
        if let limit = services.configuration.idleTimeout { idleWatch = IdleWatch(self, limit) }
    }

    // MARK: Pods

    /// Serves a pod; one that is served already by the same listeners goes on with the new stock, by others is replaced.
    func serve(_ pod: HandedPod) throws(SystemError) {
        if let proxy = pods[pod.uid], proxy.pod.listeners == pod.listeners { return proxy.restock(from: pod) }
        let proxy = try PodProxy(worker: self, pod: pod)
        proxy.dns?.resolver = pods[pod.uid]?.dns?.resolver
        retire(uid: pod.uid)
        pods[pod.uid] = proxy
    }

    /// Stops accepting for a pod and ends its connections at once.
    func stop(uid: String) {
        pods.removeValue(forKey: uid)?.stop()
    }

    /// Whom the pod's DNS is forwarded to from now on.
    func configure(uid: String, resolver: ResolverConfiguration) {
        pods[uid]?.dns?.resolver = resolver
    }

    /// Somebody has asked for the pod's end.
    func windDown(uid: String) { pods[uid]?.windDown() }

    func stopAll(except named: Set<String>) {
        for uid in pods.keys where !named.contains(uid) { stop(uid: uid) }
    }

    /// Accepts no more for a pod, whose open connections go on. The keeper may have handed it over again with other
    /// sockets: new connections come through those.
    func retire(uid: String) {
        guard let old = pods.removeValue(forKey: uid) else { return }
        draining[ObjectIdentifier(old)] = old
        old.drain { [weak self, weak old] in
            if let old { self?.draining[ObjectIdentifier(old)] = nil }
        }
    }

    /// No new connections; tunnels say goodbye. `done` is called when the last connection is over.
    func drain(done: @escaping () -> Void) {
        let all = Array(pods.values) + Array(draining.values)
        var left = all.count
        guard left > 0 else { return done() }
        for proxy in all {
            proxy.drain {
                left -= 1
                if left == 0 { done() }
            }
        }
    }

    func stopAll() {
        for proxy in Array(pods.values) + Array(draining.values) { proxy.stop() }
        pods = [:]
        draining = [:]
    }

    /// Lets connections look again at what they depend on.
    func meshChanged(_ change: MeshChange) {
        let state = services.store.snapshot()
        for proxy in pods.values { proxy.meshChanged(change, state) }
        for proxy in draining.values { proxy.meshChanged(change, state) }
    }

    /// Closes connections on which nothing has moved for so long.
    fileprivate func closeIdle(for limit: UInt64) {
        for proxy in pods.values { proxy.closeIdle(for: limit) }
        for proxy in draining.values { proxy.closeIdle(for: limit) }
    }

    /// Lets go of what was not used for a while.
    func trim() {
        counters.trim()
        for proxy in pods.values { proxy.trim() }
        for proxy in draining.values { proxy.trim() }
    }

    func socketsOpen(_ reporter: TelemetryLabels.Reporter) -> Gauge {
        reporter == .source ? sourceSockets : destinationSockets
    }

    /// What the pods' connections are at the moment, for the config dump.
    func connections() -> [String: PodProxy.Listing] { pods.mapValues(\.listing) }

    // MARK: Certificates

    /// Calls back with the TLS contexts of an identity: from within this call when they are at hand, with an error when
    /// they do not come in time.
    func contexts(
        for identity: SPIFFEIdentity, _ body: @escaping (Result<CertificateContexts.Pair, any Error>) -> Void
    ) {
        if let ready = services.contexts.ready(identity) { return body(.success(ready)) }
        nextAwaited += 1
        let token = nextAwaited
        let wait = RemoteWait(body) { [unowned self] in
            resolve(token, .failure(NoCertificateInTime(identity: identity)))
        }
        awaited[token] = wait
        wait.timer = loop.schedule(after: services.configuration.certificateTimeout, wait)
        Task { [contexts = services.contexts, remote, box] in
            let result: Result<CertificateContexts.Pair, any Error>
            do {
                result = .success(try await contexts.pair(for: identity))
            } catch {
                result = .failure(error)
            }
            remote.submit { box.worker?.resolve(token, result) }
        }
    }

    private func resolve(_ token: UInt64, _ result: Result<CertificateContexts.Pair, any Error>) {
        guard let wait = awaited.removeValue(forKey: token) else { return }
        if let timer = wait.timer { loop.cancel(timer) }
        wait.body(result)
    }

    // MARK: The mesh by name

    /// Calls back when the control plane has said what a name stands for, if anything; with false when it has not done so
    /// in time.
    func ask(for name: MeshName, of demand: any MeshDemand, _ body: @escaping (Bool) -> Void) {
        nextAwaited += 1
        let token = nextAwaited
        let wait = RemoteWait(body) { [unowned self] in answered(token, false) }
        demanded[token] = wait
        wait.timer = loop.schedule(after: services.configuration.workloadTimeout, wait)
        demand.ask(for: name) { [remote, box] in remote.submit { box.worker?.answered(token, true) } }
    }

    private func answered(_ token: UInt64, _ isAnswered: Bool) {
        guard let wait = demanded.removeValue(forKey: token) else { return }
        if let timer = wait.timer { loop.cancel(timer) }
        wait.body(isAnswered)
    }
}

/// Looks for idle connections now and then, where the configuration has a limit: no timer for each of them.
private final class IdleWatch: TimerHandler {
    private unowned let worker: Worker
    private let limit: UInt64

    init(_ worker: Worker, _ limit: Duration) {
        self.worker = worker
        self.limit = UInt64(max(limit / .nanoseconds(1), 1))
        timerFired(tag: 0)
    }

    func timerFired(tag: Int) {
        worker.closeIdle(for: limit)
        _ = worker.loop.schedule(afterNanoseconds: max(limit / 4, 1_000_000), self)
    }
}

private struct NoCertificateInTime: Error, CustomStringConvertible {
    let identity: SPIFFEIdentity
    var description: String {
        "no certificate for \(identity) came in time; is the certificate authority reachable from this node?"
    }
}

/// A connection's wait for what another thread finds out.
private final class RemoteWait<Value>: TimerHandler {
    let body: (Value) -> Void
    private let timeout: () -> Void
    var timer: TimerID?

    init(_ body: @escaping (Value) -> Void, timeout: @escaping () -> Void) {
        self.body = body
        self.timeout = timeout
    }

    func timerFired(tag: Int) {
        timer = nil
        timeout()
    }
}

/// The way from a job on the worker's thread to the worker. Unchecked, because it is read only by jobs of the worker's
/// own loop.
private final class WorkerBox: @unchecked Sendable {
    weak var worker: Worker?
}
