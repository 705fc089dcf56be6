import Addressing
import Identity
import Observability

/// The three HTTP servers: admin on loopback alone, metrics and readiness for the node.
public struct AdminServers: Sendable {
    private let endpoints: [HTTPEndpoint]

    /// - Parameters:
    ///   - certificates: Asked at each dump.
    ///   - quit: What a POST to `/quitquitquit` sets off.
    public static func start(
        _ configuration: ZtunnelConfiguration, proxy: ZtunnelProxy, logs: LogOutput, version: String,
        certificates: @escaping @Sendable () -> [CertificateManager.Status], quit: @escaping @Sendable () -> Void
    ) async throws -> AdminServers {
        let admin = [
            HTTPRoute("GET", "/") { _ in .text(index) },
            HTTPRoute("GET", "/config_dump") { _ in
                .json(try await proxy.configDump(certificates: certificates(), version: version))
            },
            HTTPRoute("POST", "/logging") { request in logging(request, logs) },
            HTTPRoute("POST", "/quitquitquit") { _ in
                quit()
                return .text("shutdown now\n")
            },
        ]
        var started: [HTTPEndpoint] = []
        do {
            started.append(try await .start(on: [configuration.adminAddress.hostAndPort], routes: admin))
            started.append(
                try await .start(
                    on: [configuration.statsAddress.hostAndPort], routes: HTTPRoute.metrics(proxy.metrics)))
            started.append(
                try await .start(
                    on: [configuration.readinessAddress.hostAndPort], routes: HTTPRoute.readiness(proxy.readiness)))
        } catch {
            for endpoint in started { await endpoint.close() }
            throw error
        }
        return AdminServers(endpoints: started)
    }

    public func close() async { for endpoint in endpoints { await endpoint.close() } }

    private static let index = """
        GET  /config_dump   what this ztunnel knows and does, as JSON
        POST /logging       ?level=info or ?level=zds=debug,access=info; ?reset first forgets earlier settings
        POST /quitquitquit  drain and stop

        """

    private static func logging(_ request: HTTPRequest, _ logs: LogOutput) -> HTTPReply {
        var filter = request.hasParameter("reset") ? LogFilter(.info) : logs.currentFilter
        if let level = request.parameter("level"), !filter.add(level) {
            return .text("cannot read level \(level.debugDescription); use info or target=level\n", status: 400)
        }
        logs.setFilter(filter)
        return .text("current log level is \(filter)\n")
    }
}

extension Endpoint {
    fileprivate var hostAndPort: (host: String, port: Int) { (address.description, Int(port)) }
}
