extension HTTPRoute {
    /// `/metrics` and `/stats/prometheus`. The body is OpenMetrics text always; it is called so to a client that names
    /// OpenMetrics in `Accept`, and plain text otherwise.
    public static func metrics(_ registry: MetricsRegistry) -> [HTTPRoute] {
        ["/metrics", "/stats/prometheus"].map { path in
            HTTPRoute("GET", path) { request in
                let accepted = request.headers.filter { $0.name.lowercased() == "accept" }.map { $0.value.lowercased() }
                let names = accepted.contains { $0.contains("application/openmetrics-text") }
                return .text(
                    registry.exposition(),
                    contentType: names
                        ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; charset=utf-8")
            }
        }
    }

    /// `/healthz/ready`: 200 when nothing is pending, else 500 with the names of what is.
    /// - Parameter stuck: asked each time; names what should have answered just now and did not.
    public static func readiness(
        _ readiness: Readiness, stuck: @escaping @Sendable () async -> [String] = { [] }
    ) -> [HTTPRoute] {
        [
            HTTPRoute("GET", "/healthz/ready") { _ in
                let pending = (readiness.pendingTasks + (await stuck())).sorted()
                return pending.isEmpty
                    ? .text("ready\n")
                    : .text("not ready, pending: \(pending.joined(separator: ", "))\n", status: 500)
            }
        ]
    }
}
