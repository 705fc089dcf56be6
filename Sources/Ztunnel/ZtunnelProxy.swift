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
    private let logger: Logger
    private let workers: WorkerPool
    private let zds: ZDSClient
    private let zdsThread = Mutex<pthread_t?>(nil)
    private let observation: Mutex<MeshStore.Observation?>
    private let revocation: RevocationMonitor?
    private let revocationTask: Task<Void, Never>?

    /// Starts the workers; pods are served from ``start()`` on.
    public init(
        _ configuration: ZtunnelConfiguration, store: MeshStore, certificates: any WorkloadCertificateSource,
        metrics: MetricsRegistry, accessLog: AccessLog, readiness: Readiness, logger: Logger
    ) throws {
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
        let services = ZtunnelServices(
            configuration: configuration, store: store, contexts: contexts, metrics: try ConnectionMetrics(metrics),
            dnsMetrics: try DNSMetrics(metrics), accessLog: accessLog, logger: logger, revocation: revocation,
            revocationMetrics: revocationMetrics)
        let keeperReady = KeeperReadiness(readiness)
        workers = try WorkerPool(
            count: configuration.workers, services: services, gauges: try PodGauges(metrics),
            onKeeper: { keeperReady.set($0) })
        revocation?.whenRevoked { [workers] in workers.revoked($0) }
        revocationTask = revocation.map { monitor in Task { await monitor.run() } }
        zds = try ZDSClient(
            path: configuration.zdsSocket, successor: configuration.isSuccessor, pods: workers, logger: logger)
        observation = Mutex(nil)
        try AccessLogMetrics.register(in: metrics) { accessLog.dropped }
        try WorkerMetrics.register(in: metrics) { [workers] in workers.takeLongestRound() }
        let local = LocalIdentities(node: configuration.nodeName, contexts: contexts)
        let observed = store.onChange { [workers] event in
            local.update(event)
            workers.meshChanged(event.change)
        }
        observation.withLock { $0 = observed }
    }

    /// Begins to take pods over from the keeper.
    public func start() throws {
        let thread = try zds.start()
        zdsThread.withLock { $0 = thread }
    }

    /// Stops accepting, lets open connections run on for the drain limit, and ends the workers and the log.
    public func stop() async {
        revocationTask?.cancel()
        zds.stop()
        if let thread = zdsThread.withLock({ $0 }) { pthread_join(thread, nil) }
        observation.withLock { $0 = nil }
        await workers.drain(limit: configuration.drainLimit)
        accessLog.close(milliseconds: 1000)
    }

    /// The config dump's parts that the proxy knows, as JSON.
    public func configDump(certificates: [CertificateManager.Status], version: String) async throws -> [UInt8] {
        try ConfigDump(
            store.snapshot(), certificates: certificates, pods: await workers.connections(), version: version
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
