import Mesh
import Observability
import Synchronization

/// The counters of connections, with Istio's names and labels, and the table of those in use.
///
/// Opened, closed and the bytes of a connection carry the same labels, so that for every label set the connections open
/// are `opened - closed`. How a connection ended is told by `istio_tcp_connections_failed_total` alone, in
/// `response_flags` (ADR 13).
final class ConnectionMetrics: Sendable {
    let opened: CounterFamily
    let closed: CounterFamily
    let received: CounterFamily
    let sent: CounterFamily
    let failed: CounterFamily
    let denied: CounterFamily
    /// Endpoints passed over after failures.
    let ejected: CounterFamily
    /// Connections that a workload's limits turned away.
    let limited: CounterFamily
    private let sockets: GaugeFamily
    let stockWaits: Counter
    private let table = Mutex<[TelemetryLabels: ConnectionSeries]>([:])

    init(_ registry: MetricsRegistry) throws {
        let names = TelemetryLabels.names
        opened = try registry.counter(
            "istio_tcp_connections_opened", "The total number of TCP connections opened", labels: names)
        closed = try registry.counter(
            "istio_tcp_connections_closed", "The total number of TCP connections closed", labels: names)
        received = try registry.counter(
            "istio_tcp_received_bytes", "The size of total bytes received during request in case of a TCP connection",
            labels: names)
        sent = try registry.counter(
            "istio_tcp_sent_bytes", "The size of total bytes sent during response in case of a TCP connection",
            labels: names)
        failed = try registry.counter(
            "istio_tcp_connections_failed",
            "The total number of TCP connections that failed; response_flags says how (unstable)", labels: names)
        sockets = try registry.gauge(
            "istio_tcp_sockets_open", "The current number of open TCP sockets (unstable)", labels: ["reporter"])
        denied = try registry.counter(
            "apus_early_denials", "Connections refused before anything was known about their peer (unstable)",
            labels: ["direction", "reason"])
        ejected = try registry.counter(
            "apus_endpoint_ejections", "Endpoints passed over for a while after connections to them failed (unstable)")
        limited = try registry.counter(
            "apus_connections_limited",
            "Connections into a workload turned away by its connection limit or rate (unstable)",
            labels: ["destination_workload_namespace", "destination_workload", "limit"])
        stockWaits = try registry.counter(
            "apus_stock_waits", "Connections that had to wait for a prepared socket of their pod (unstable)"
        ).single
    }

    /// Sockets accepted from pods' applications and peers that are open.
    func socketsOpen(_ reporter: TelemetryLabels.Reporter) -> Gauge { sockets.with([reporter.rawValue]) }

    /// The counters of these labels: the same object for the same labels, as long as they are in use.
    func counters(_ labels: TelemetryLabels, source: Party, destination: Party, now: UInt64) -> ConnectionCounters {
        table.withLock {
            $0[labels, default: ConnectionSeries(ConnectionCounters(self, labels), at: now)]
                .used(by: source, destination, at: now)
        }
    }

    /// Takes series out of the exposition that have nothing more to tell: no connection is open, nothing was counted for
    /// the grace period, and one of the two sides is gone from the mesh. Called every ``sweepInterval``.
    ///
    /// A series is announced in one sweep and taken out in the next, so that a connection that begins in between keeps
    /// it.
    func sweep(_ mesh: MeshState, at now: UInt64) {
        table.withLock { table in
            for labels in Array(table.keys) where table[labels]?.isOver(mesh, at: now) == true {
                // Under the lock: whoever asks for these labels next begins a new series, and not with what is taken out.
                table.removeValue(forKey: labels)?.counters.takeOut()
            }
        }
    }

    /// Label sets in use.
    var seriesCount: Int { table.withLock { $0.count } }

    static let sweepInterval: Duration = .seconds(30)
}

/// The counters of one kind of connection: same ends, same service, same security. Shared by all workers.
final class ConnectionCounters: Sendable {
    let opened: Counter
    let closed: Counter
    let received: Counter
    let sent: Counter
    private let metrics: ConnectionMetrics
    private let labels: TelemetryLabels
    /// About to be taken out: whoever keeps this asks ``ConnectionMetrics`` again before it counts another connection.
    private let retired = Atomic<Bool>(false)

    init(_ metrics: ConnectionMetrics, _ labels: TelemetryLabels) {
        self.metrics = metrics
        self.labels = labels
        opened = metrics.opened.with(labels.values)
        closed = metrics.closed.with(labels.values)
        received = metrics.received.with(labels.values)
        sent = metrics.sent.with(labels.values)
    }

    func failed(_ flag: TelemetryLabels.ResponseFlag) { metrics.failed.with(labels.with(flag).values).add(1) }

    var isRetired: Bool {
        get { retired.load(ordering: .relaxed) }
        set { retired.store(newValue, ordering: .relaxed) }
    }

    /// Anything counted changes it.
    var total: UInt64 { opened.value &+ closed.value &+ received.value &+ sent.value }
    var isOpen: Bool { opened.value != closed.value }

    fileprivate func takeOut() {
        for family in [metrics.opened, metrics.closed, metrics.received, metrics.sent] { family.remove(labels.values) }
        for flag in TelemetryLabels.ResponseFlag.allCases { metrics.failed.remove(labels.with(flag).values) }
    }
}
