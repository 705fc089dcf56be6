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

extension HTTPRoute {
    /// `/debug/pprof/profile`: where the process spends its processor time, for `go tool pprof` and what reads the same.
    /// Parameters `seconds` (1 to 300, 10 when not given) and `frequency` (1 to 1000 samples in a second of processor
    /// time, 100 when not given). The answer comes when the time is over.
    public static func cpuProfile() -> HTTPRoute {
        HTTPRoute("GET", "/debug/pprof/profile") { request in
            func number(_ name: String, _ range: ClosedRange<Int>, standard: Int) throws(BadParameter) -> Int {
                guard let text = request.parameter(name) else {
                    guard !request.hasParameter(name) else { throw BadParameter(name, "nothing", range) }
                    return standard
                }
                guard let value = Int(text), range.contains(value) else {
                    throw BadParameter(name, text.debugDescription, range)
                }
                return value
            }
            do {
                let seconds = try number("seconds", CPUProfiler.seconds, standard: 10)
                let frequency = try number("frequency", CPUProfiler.frequencies, standard: 100)
                let profile = try await CPUProfiler.record(for: .seconds(seconds), frequency: frequency)
                return HTTPReply(contentType: "application/octet-stream", body: profile.encoded())
            } catch let error as BadParameter {
                return .text("\(error)\n", status: 400)
            } catch let error as CPUProfiler.Failure where error.code == .busy {
                return .text("\(error)\n", status: 409)
            }
        }
    }
}

/// A query parameter that cannot be used.
private struct BadParameter: Error, CustomStringConvertible {
    let description: String

    init(_ name: String, _ value: String, _ range: ClosedRange<Int>) {
        description = "\(name) is \(value); use a whole number from \(range.lowerBound) to \(range.upperBound)"
    }
}
