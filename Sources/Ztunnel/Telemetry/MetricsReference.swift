import Observability

/// What ztunnel serves at `/metrics`, without running it: for the reference table.
public enum ZtunnelMetricsReference {
    public static func descriptions() throws -> [MetricsRegistry.Description] {
        let registry = MetricsRegistry()
        _ = try ConnectionMetrics(registry)
        _ = try DNSMetrics(registry)
        _ = try PodGauges(registry)
        _ = try RevocationMetrics(registry)
        try LogMetrics.register(in: registry, accessLog: { 0 }, log: { 0 })
        try WorkerMetrics.register(in: registry) { 0 }
        _ = try ProcessMetrics(registry, version: "")
        return registry.describe()
    }
}

/// Lines that the logs lost because their reader was behind.
public enum LogMetrics {
    public static func register(
        in registry: MetricsRegistry, accessLog: @escaping @Sendable () -> UInt64,
        log: @escaping @Sendable () -> UInt64
    ) throws {
        try registry.counter(
            "apus_access_log_dropped_lines", "Access log lines dropped because the writer was behind (unstable)",
            read: accessLog)
        try registry.counter(
            "apus_log_dropped_lines", "Lines of the process's own log dropped because the writer was behind (unstable)",
            read: log)
    }
}

enum WorkerMetrics {
    static func register(in registry: MetricsRegistry, longestRound: @escaping @Sendable () -> Double) throws {
        try registry.gauge(
            "apus_worker_longest_round_seconds",
            "Longest that one round of a worker's loop has taken since the last scrape: so long its other connections waited",
            read: { longestRound() })
    }
}
