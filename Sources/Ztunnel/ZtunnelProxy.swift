import Glibc
import HBONE
import Identity
import LinuxNetwork
import Logging
import Mesh
import Observability
import Synchronization

/// The data path of a node: pods' connections in, tunnels out, policy between. Where pods, mesh and certificates come
/// from is given to it.
public final class ZtunnelProxy: Sendable {
    public let store: MeshStore
    public let metrics: MetricsRegistry
    public let readiness: Readiness
    private let configuration: ZtunnelConfiguration
    private let contexts: CertificateContexts
    private let accessLog: AccessLog
    private let policyLog: PolicyLog
    private let connectionMetrics: ConnectionMetrics
    private let sweeping = Mutex<Task<Void, Never>?>(nil)
    private let stopping = Mutex<Task<Void, Never>?>(nil)
    private let logger: Logger
    private let workers: WorkerPool
    /// `nil` where no pods but the own are served.
    private let zds: ZDSClient?
    private let ownSockets = Mutex<PodSocketMaker?>(nil)
    private let zdsThread = Mutex<pthread_t?>(nil)
    private let observation: Mutex<MeshStore.Observation?>
    private let revocation: RevocationMonitor?
    private let revocationTask: Task<Void, Never>?

    /// Starts the workers; pods are served from ``start()`` on.
    /// - Parameters:
    ///   - demand: Whom to ask for what the store does not hold, where it does not hold everything (`XDS_ON_DEMAND`).
    ///   - onProtocolBreach: The control side broke ZDS: drain with ``stop()`` and end the process as failed.
    public init(
        _ configuration: ZtunnelConfiguration, store: MeshStore, demand: (any MeshDemand)? = nil,
        certificates: any WorkloadCertificateSource, metrics: MetricsRegistry, accessLog: AccessLog,
        readiness: Readiness, logger: Logger,
        onProtocolBreach: @escaping @Sendable (String) -> Void = { _ in }
    ) throws {
        try configuration.checkSockets()
        self.configuration = configuration
        self.store = store
        self.metrics = metrics
        self.readiness = readiness
        self.accessLog = accessLog
        self.logger = logger
        let revocationMetrics = try RevocationMetrics(metrics)
        revocation = configuration.revocationFile.map {
            RevocationMonitor(path: $0, metrics: revocationMetrics, readiness: readiness, logger: logger)
        }
        contexts = CertificateContexts(
            certificates,
            trust: CertificateContexts.Trust(
                domains: TrustDomains(configuration.trustDomain, aliases: configuration.trustDomainAliases),
                bundles: configuration.trustBundles, revocation: revocation?.store,
                requiresPostQuantum: configuration.requiresPostQuantum), logger: logger)
        policyLog = PolicyLog(atInfo: configuration.logsPolicyDecisions)
        connectionMetrics = try ConnectionMetrics(metrics)
        let services = ZtunnelServices(
            configuration: configuration, store: store, contexts: contexts, metrics: connectionMetrics,
            dnsMetrics: try DNSMetrics(metrics), accessLog: accessLog, policyLog: policyLog, logger: logger,
            demand: demand, revocation: revocation, revocationMetrics: revocationMetrics)
        let keeperReady = KeeperReadiness(readiness)
        workers = try WorkerPool(
            count: configuration.workers, services: services, gauges: try PodGauges(metrics),
            onKeeper: { keeperReady.set($0) })
        revocation?.whenRevoked { [workers] in workers.revoked($0) }
        revocationTask = revocation.map { monitor in Task { await monitor.run() } }
        zds =
            configuration.isDedicated
            ? nil
            : try ZDSClient(
                path: configuration.zdsSocket, successor: configuration.isSuccessor, pods: workers,
                socketMaker: configuration.makesOwnSockets ? try PodSocketMaker(configuration, logger: logger) : nil,
                logger: logger, onBreach: onProtocolBreach)
        observation = Mutex(nil)
        try WorkerMetrics.register(in: metrics) { [workers] in workers.takeLongestRound() }
        let local = zds.map { _ in LocalIdentities(node: configuration.nodeName, contexts: contexts) }
        let observed = store.onChange { [workers] event in
            local?.update(event)
            workers.meshChanged(event.change)
        }
        observation.withLock { $0 = observed }
    }

    /// Begins to take pods over from the keeper, and to serve the own pod where that is known.
    public func start() throws {
        if let workload = configuration.dedicatedWorkload {
            try workers.serve(own(workload, capturing: true))
            workers.controlReady(true)
        }
        if let workload = configuration.selfProxied, configuration.proxyEnabled { serveSelf(workload) }
        if let zds {
            let thread = try zds.start()
            zdsThread.withLock { $0 = thread }
        }
        sweeping.withLock {
            $0 = Task { [connectionMetrics, store, workers] in
                // The sleep throws when the proxy stops.
                while (try? await Task.sleep(for: ConnectionMetrics.sweepInterval)) != nil {
                    connectionMetrics.sweep(store.snapshot(), at: MonotonicClock.now)
                    workers.trim()
                }
            }
        }
    }

    private func own(_ workload: OwnWorkload, capturing: Bool) throws -> HandedPod {
        let maker = try PodSocketMaker(own: configuration, logger: logger)
        ownSockets.withLock { $0 = maker }
        return try maker.makeOwn(workload, in: configuration.ownNetwork, capturing: capturing)
    }

    /// The node's pods do not wait for it: without it metrics cannot be read through a tunnel.
    private func serveSelf(_ workload: OwnWorkload) {
        do { try workers.serveOwn(own(workload, capturing: false)) } catch {
            logger.error(
                "ztunnel's own pod is not served on port 15008; unset POD_NAME if that is not wanted",
                metadata: ["error": "\(error)"])
        }
    }

    /// Follows the log filter: access lines and policy verdicts are written without a logger of their own.
    public func follow(_ logs: LogOutput) {
        logs.follow("access") { [accessLog] in accessLog.setLevel($0) }
        logs.follow(PolicyLog.label) { [policyLog] in policyLog.setLevel($0) }
    }

    /// The workers that do not answer within a second, by name. Readiness asks it: a process that answers its probes
    /// and moves no bytes is not ready.
    public func stuckWorkers() async -> [String] { await workers.stuck(after: .seconds(1)) }

    /// Stops accepting, lets open connections run on for the drain limit, and ends the workers and the log. Whoever asks
    /// again waits with the first.
    public func stop() async {
        let stopping = stopping.withLock { stopping in
            let task = stopping ?? Task { await end() }
            stopping = task
            return task
        }
        await stopping.value
    }

    private func end() async {
        revocationTask?.cancel()
        sweeping.withLock { $0 }?.cancel()
        zds?.stop()
        if let thread = zdsThread.withLock({ $0.take() }) { pthread_join(thread, nil) }
        observation.withLock { $0 = nil }
        await workers.drain(limit: configuration.drainLimit)
        accessLog.close(milliseconds: 1000)
    }

    /// The config dump's parts that the proxy knows, as JSON.
    public func configDump(certificates: [CertificateManager.Status], version: String) async throws -> [UInt8] {
        try ConfigDump(
            store.snapshot(), certificates: certificates, pods: await workers.connections(),
            pending: zds?.pendingPods ?? [:], configuration: configuration, version: version
        ).json()
    }
}

/// Keeps the readiness task of the keeper's snapshot: pending from the start, and again while the keeper is away.
private final class KeeperReadiness: Sendable {
    private let readiness: Readiness
    private let task: Mutex<Readiness.Task?>

    init(_ readiness: Readiness) {
        self.readiness = readiness
        task = Mutex(readiness.pending("workload proxy manager"))
    }

    func set(_ connected: Bool) {
        task.withLock { task in
            if connected {
                task?.done()
                task = nil
            } else if task == nil {
                task = readiness.pending("workload proxy manager")
            }
        }
    }
}
