import Observability

/// How many pods are served, by the names Istio's dashboards know.
final class PodGauges: Sendable {
    private let active: Gauge
    private let pending: Gauge
    private let startedCount: Counter
    private let stoppedCount: Counter

    init(_ registry: MetricsRegistry) throws {
        active = try registry.gauge("workload_manager_active_proxy_count", "Pods served (unstable)").with([])
        pending = try registry.gauge(
            "workload_manager_pending_proxy_count", "Pods that could not be served and are tried again (unstable)"
        ).with([])
        startedCount = try registry.counter("workload_manager_proxies_started", "Pods taken over (unstable)").with([])
        stoppedCount = try registry.counter("workload_manager_proxies_stopped", "Pods given back (unstable)").with([])
    }

    func set(served count: Int) { active.set(Int64(count)) }
    func set(pending count: Int) { pending.set(Int64(count)) }
    func started() { startedCount.add(1) }
    func stopped() { stoppedCount.add(1) }
}
