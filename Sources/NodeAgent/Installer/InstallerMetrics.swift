import Observability

/// The installer's figures.
struct InstallerMetrics: Sendable {
    let inPlace: GaugeFamily
    let writes: CounterFamily
    let conflicts: CounterFamily
    let failures: CounterFamily

    init(_ registry: MetricsRegistry) throws(MetricsError) {
        inPlace = try registry.gauge(
            "apus_agent_installer_in_place", "1 while the plugin and its place in the CNI configuration are as wanted.")
        writes = try registry.counter(
            "apus_agent_installer_writes", "Files of the CNI installation that were written, by which: plugin or list.",
            labels: ["file"])
        conflicts = try registry.counter(
            "apus_agent_installer_conflicts",
            "Times that another writer undid the CNI installation too often and was left alone for a while.",
            labels: ["file"])
        failures = try registry.counter(
            "apus_agent_installer_failures", "Attempts to look at or change the CNI installation that failed.")
    }
}
