import Discovery
import Identity
import Observability

/// What a controller counts.
struct ControllerMetrics: Sendable {
    let registry: MetricsRegistry
    let refusals: CounterFamily
    let certificates: CounterFamily
    let tokens: CounterFamily
    let problems: GaugeFamily
    let warnings: GaugeFamily
    let resources: GaugeFamily
    let recomputations: CounterFamily
    let conditions: CounterFamily
    let leads: GaugeFamily

    init(_ registry: MetricsRegistry) throws(MetricsError) {
        self.registry = registry
        refusals = try registry.counter(
            "apus_controller_refusals_total", "Requests refused, by service and reason", labels: ["service", "code"],
            maximumSeries: 200)
        certificates = try registry.counter("apus_controller_certificates_issued_total", "Certificates issued")
        tokens = try registry.counter("apus_controller_tokens_issued_total", "Node tokens issued")
        problems = try registry.gauge("apus_controller_source_problems", "What is wrong with the source of objects")
        warnings = try registry.gauge(
            "apus_controller_policy_warnings",
            "Policies that are not in force at layer 4 as written, by effect: stricter, weaker, ignored",
            labels: ["effect"])
        resources = try registry.gauge("apus_controller_resources", "Resources published", labels: ["type"])
        recomputations = try registry.counter(
            "apus_controller_recomputations_total", "Times the resources were computed from the objects")
        conditions = try registry.counter(
            "apus_controller_condition_writes_total", "Conditions written into objects, by outcome: written, failed",
            labels: ["outcome"])
        leads = try registry.gauge(
            "apus_controller_leader", "1 while this replica is the one that writes into the cluster")
    }

    /// Values that are read when somebody asks.
    func watch(_ server: DiscoveryServer, _ authority: EmbeddedCA) throws(MetricsError) {
        try registry.gauge("apus_controller_discovery_clients", "Connected discovery clients") {
            Double(server.counts.clients)
        }
        try registry.gauge("apus_controller_discovery_responses", "Discovery responses sent since the start") {
            Double(server.counts.responses)
        }
        try registry.gauge(
            "apus_controller_discovery_resources_sent", "Resources in discovery responses since the start"
        ) { Double(server.counts.resourcesSent) }
        try registry.gauge("apus_controller_discovery_refusals", "Responses that clients refused since the start") {
            Double(server.counts.refusals)
        }
        try registry.gauge(
            "apus_controller_root_certificate_expiry_timestamp_seconds", "When the authority's root ends"
        ) { authority.rootNotAfter.timeIntervalSince1970 }
    }
}
