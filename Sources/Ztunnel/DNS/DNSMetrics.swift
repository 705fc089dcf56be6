import DNS
import Mesh
import Observability

/// The counters of DNS, with Istio's names and labels.
final class DNSMetrics: Sendable {
    let requests: CounterFamily
    let upstreamRequests: CounterFamily
    let upstreamFailures: CounterFamily
    let upstreamDuration: HistogramFamily
    let onDemand: CounterFamily
    let overloads: Counter

    private static let labels = [
        "request_query_type", "request_protocol", "source_canonical_service", "source_canonical_revision",
    ]

    init(_ registry: MetricsRegistry) throws {
        requests = try registry.counter(
            "istio_dns_requests", "Total number of DNS requests (unstable)", labels: Self.labels)
        upstreamRequests = try registry.counter(
            "istio_dns_upstream_requests", "Total number of DNS requests forwarded to upstream (unstable)",
            labels: Self.labels)
        upstreamFailures = try registry.counter(
            "istio_dns_upstream_failures",
            "Total number of DNS requests that failed to forward upstream (unstable)", labels: Self.labels)
        upstreamDuration = try registry.histogram(
            "istio_dns_upstream_request_duration_seconds",
            "Total time in seconds Istio takes to get DNS response from upstream (unstable)",
            buckets: [0.0005, 0.001, 0.01, 0.1, 1, 5], labels: Self.labels)
        onDemand = try registry.counter(
            "istio_on_demand_dns", "The total number of requests that used on-demand DNS (unstable)",
            labels: TelemetryLabels.sourceNames + ["hostname"])
        overloads = try registry.counter(
            "apus_dns_overloads", "DNS queries refused because too many of the pod were waiting (unstable)"
        ).single
    }

    /// Counts a connection whose destination is known by a host name alone.
    /// - Parameter labels: The connection's own.
    func countOnDemand(_ labels: TelemetryLabels, hostname: String) {
        onDemand.with(labels.sourceValues + [hostname]).increment()
    }
}

/// The counters of one kind of query of one workload.
struct DNSCounters {
    let requests: Counter
    let upstreamRequests: Counter
    let upstreamFailures: Counter
    let upstreamDuration: Histogram

    init(_ metrics: DNSMetrics, type: String, transport: String, workload: Workload?) {
        func orUnknown(_ text: String?) -> String { text.map { $0.isEmpty ? "unknown" : $0 } ?? "unknown" }
        let values = [
            type, transport, orUnknown(workload?.canonicalName), orUnknown(workload?.canonicalRevision),
        ]
        requests = metrics.requests.with(values)
        upstreamRequests = metrics.upstreamRequests.with(values)
        upstreamFailures = metrics.upstreamFailures.with(values)
        upstreamDuration = metrics.upstreamDuration.with(values)
    }
}
