import Observability

/// What the agent serves at `/metrics`, without running it: for the reference table.
public enum AgentMetricsReference {
    public static func descriptions() throws -> [MetricsRegistry.Description] {
        let registry = MetricsRegistry()
        _ = try AgentMetrics(registry)
        _ = try InstallerMetrics(registry)
        return registry.describe()
    }
}
