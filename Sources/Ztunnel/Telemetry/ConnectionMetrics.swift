import Mesh
import Observability

/// The counters of connections, with Istio's names and labels.
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
            "istio_tcp_connections_failed", "The total number of TCP connections that failed (unstable)",
            labels: names)
        denied = try registry.counter(
            "apus_early_denials", "Connections refused before anything was known about their peer (unstable)",
            labels: ["direction", "reason"])
        ejected = try registry.counter(
            "apus_endpoint_ejections", "Endpoints passed over for a while after connections to them failed (unstable)")
        limited = try registry.counter(
            "apus_connections_limited",
            "Connections into a workload turned away by its connection limit or rate (unstable)",
            labels: ["destination_workload_namespace", "destination_workload", "limit"])
    }
}

/// The counters of one kind of connection: same ends, same service, same security.
final class ConnectionCounters {
    let opened: Counter
    let received: Counter
    let sent: Counter
    private let metrics: ConnectionMetrics
    private let labels: TelemetryLabels
    private var closedCounters: [TelemetryLabels.ResponseFlag: Counter] = [:]

    init(_ metrics: ConnectionMetrics, _ labels: TelemetryLabels) {
        self.metrics = metrics
        self.labels = labels
        opened = metrics.opened.with(labels.values)
        received = metrics.received.with(labels.values)
        sent = metrics.sent.with(labels.values)
    }

    func closed(_ flag: TelemetryLabels.ResponseFlag) -> Counter {
        if let counter = closedCounters[flag] { return counter }
        let counter = metrics.closed.with(labels.with(flag).values)
        closedCounters[flag] = counter
        return counter
    }

    func failed(_ flag: TelemetryLabels.ResponseFlag) { metrics.failed.with(labels.with(flag).values).add(1) }
}

/// One worker's way to its counters, so that a connection like one before does not spell out its labels again.
final class CounterCache {
    struct Key: Hashable {
        let reporter: TelemetryLabels.Reporter
        let source: TelemetryLabels.Peer.Key
        let destination: TelemetryLabels.Peer.Key
        let service: NamespacedHostname?
        let security: TelemetryLabels.Security
    }

    /// Beyond this the cache starts anew; the counters themselves live in the registry.
    private static let limit = 8192

    private let metrics: ConnectionMetrics
    private var counters: [Key: ConnectionCounters] = [:]

    init(_ metrics: ConnectionMetrics) { self.metrics = metrics }

    func counters(
        _ reporter: TelemetryLabels.Reporter, source: Party, destination: Party, service: Service?,
        security: TelemetryLabels.Security
    ) -> ConnectionCounters {
        let key = Key(
            reporter: reporter, source: source.key, destination: destination.key, service: service?.key,
            security: security)
        if let known = counters[key] { return known }
        if counters.count >= Self.limit { counters = [:] }
        let labels = TelemetryLabels(
            reporter: reporter, source: source.peer, destination: destination.peer, service: service,
            security: security)
        let made = ConnectionCounters(metrics, labels)
        counters[key] = made
        return made
    }
}

extension TelemetryLabels.Peer {
    /// What tells peers apart at a glance: the record (by its address in memory, which the key keeps alive) and the
    /// identity proven.
    struct Key: Hashable {
        let workload: Workload?
        let principal: SPIFFEIdentity?
        let said: Baggage?

        static func == (left: Key, right: Key) -> Bool {
            left.workload === right.workload && left.principal == right.principal && left.said == right.said
        }
        func hash(into hasher: inout Hasher) {
            hasher.combine(workload.map { ObjectIdentifier($0) })
            hasher.combine(principal)
        }
    }
}

/// One end of a connection, as telemetry sees it.
struct Party {
    var workload: Workload?
    /// Proven by TLS, or for our own side what we prove.
    var principal: SPIFFEIdentity?
    /// What a peer said of itself; counts only where no record says otherwise.
    var baggage: Baggage?

    var key: TelemetryLabels.Peer.Key { .init(workload: workload, principal: principal, said: baggage) }

    var peer: TelemetryLabels.Peer {
        if let baggage { return .init(baggage, workload: workload, principal: principal) }
        return workload.map { .init($0, principal: principal) } ?? .init(principal: principal)
    }
}
