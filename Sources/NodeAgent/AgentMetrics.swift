import Observability

/// The agent's figures.
struct AgentMetrics: Sendable {
    let pods: GaugeFamily
    let calls: CounterFamily
    let repairs: CounterFamily
    let failures: CounterFamily
    let keeperConnected: GaugeFamily
    let enrolment: HistogramFamily
    let cut: CounterFamily
    let blocked: GaugeFamily
    let spared: GaugeFamily
    let sparedCut: CounterFamily
    let slippedThrough: CounterFamily
    let outside: GaugeFamily
    let objectsReachable: GaugeFamily
    let objectsContact: GaugeFamily

    init(_ registry: MetricsRegistry) throws(MetricsError) {
        pods = try registry.gauge(
            "apus_agent_pods", "Pods on this node by how far their enrolment is.", labels: ["state"])
        calls = try registry.counter(
            "apus_agent_cni_requests", "Requests of the CNI plugin by verb and the code of the reply.",
            labels: ["verb", "code"])
        repairs = try registry.counter(
            "apus_agent_drift_repairs", "Differences between wanted and actual capture that were repaired, by kind.",
            labels: ["reason"])
        failures = try registry.counter(
            "apus_agent_reconcile_failures", "Attempts to bring a pod to its wanted state that failed.")
        keeperConnected = try registry.gauge("apus_agent_keeper_connected", "1 while the keeper is there.")
        enrolment = try registry.histogram(
            "apus_agent_enrolment_seconds", "Time from the decision to enrol a pod to capture in force.",
            buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5])
        blocked = try registry.gauge(
            "apus_agent_blocked_pods", "Pods that have no network until their capture is proven.")
        spared = try registry.gauge(
            "apus_agent_spared_connections", "Connections from before their pod's enrolment that go past the mesh.")
        sparedCut = try registry.counter(
            "apus_agent_spared_connections_cut",
            "Connections from before their pod's enrolment that were cut, and why.",
            labels: ["reason"])
        cut = try registry.counter(
            "apus_agent_drain_deadlines", "Un-enrolments that ended with captured connections still open.")
        slippedThrough = try registry.counter(
            "apus_agent_slipped_through",
            "Pods that ran without the agent having had their ADD, and were taken into the mesh then.")
        outside = try registry.gauge(
            "apus_agent_pods_outside",
            "Pods of this node that belong in the mesh, run outside it, and whose namespace cannot be found.")
        objectsReachable = try registry.gauge(
            "apus_agent_objects_reachable", "1 while the API server tells of all objects the agent needs.")
        objectsContact = try registry.gauge(
            "apus_agent_objects_last_contact_timestamp_seconds",
            "When the API server was last heard from, in seconds since 1970.")
    }
}
