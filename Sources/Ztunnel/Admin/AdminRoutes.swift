import Observability

/// What the admin server on 15000 answers, with Istio's paths.
enum AdminRoutes {
    /// - Parameters:
    ///   - dump: The config dump, made at each call.
    ///   - quit: What a POST to `/quitquitquit` sets off.
    static func all(
        dump: @escaping @Sendable () async throws -> [UInt8], logs: LogOutput, quit: @escaping @Sendable () -> Void
    ) -> [HTTPRoute] {
        [
            HTTPRoute("GET", "/") { _ in .text(index, contentType: "text/html; charset=utf-8") },
            HTTPRoute("GET", "/config_dump") { _ in .json(try await dump()) },
            HTTPRoute("POST", "/logging") { logging($0, logs) },
            HTTPRoute("GET", "/logging") { _ in
                var reply = HTTPReply.text("use POST\n\(loggingHelp)", status: 405)
                reply.headers.append(("allow", "POST"))
                return reply
            },
            HTTPRoute("POST", "/quitquitquit") { _ in
                quit()
                return .text("shutdown now\n")
            },
            .cpuProfile(),
            HTTPRoute("GET", "/debug/pprof/heap") { _ in .text(noHeapProfile, status: 501) },
        ]
    }

    private static func logging(_ request: HTTPRequest, _ logs: LogOutput) -> HTTPReply {
        var filter = request.hasParameter("reset") ? logs.initialFilter : logs.currentFilter
        if let level = request.parameter("level"), !filter.add(level) {
            return .text("cannot read level \(level.debugDescription)\n\(loggingHelp)", status: 400)
        }
        logs.setFilter(filter)
        return .text("current log level is \(filter.description)\n")
    }

    private static let loggingHelp = """
        POST /logging                              the log level in force
        POST /logging?level=debug                  changes it
        POST /logging?level=access=debug,xds=off   for single targets
        POST /logging?reset                        back to what it was at the start
        levels: off, error, warn, info, debug, trace

        """

    private static let noHeapProfile = """
        there is no heap profiler in the process. On the node: /proc/<pid>/smaps_rollup

        """

    private static let index = """
        <!doctype html>
        <html lang="en">
        <meta charset="utf-8">
        <title>apus ztunnel</title>
        <h1>apus ztunnel</h1>
        <ul>
        <li><a href="/config_dump">/config_dump</a>: what this ztunnel knows and does, as JSON
        <li>POST /logging: the log levels; ?level=info or ?level=xds=debug,access=off; ?reset forgets earlier settings
        <li><a href="/debug/pprof/profile">/debug/pprof/profile</a>: a CPU profile, for go tool pprof; ?seconds=10 up to
        300, ?frequency=100 up to 1000 samples in a second of processor time
        <li>POST /quitquitquit: drain and stop
        </ul>
        </html>

        """
}
