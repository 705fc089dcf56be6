import Addressing
import Foundation
import Identity
import Observability

/// The three HTTP servers, apart for a reason each: admin on loopback alone; metrics, which are dear to make, for
/// whoever scrapes the node; readiness, which asks the workers and so proves that bytes are moved.
public struct AdminServers: Sendable {
    private let endpoints: [HTTPEndpoint]

    /// - Parameters:
    ///   - certificates: Asked at each dump.
    ///   - quit: What a POST to `/quitquitquit` sets off.
    public static func start(
        _ configuration: ZtunnelConfiguration, proxy: ZtunnelProxy, logs: LogOutput, version: String,
        certificates: @escaping @Sendable () -> [CertificateManager.Status], quit: @escaping @Sendable () -> Void
    ) async throws -> AdminServers {
        let admin = AdminRoutes.all(
            dump: { try await proxy.configDump(certificates: certificates(), version: version) }, logs: logs,
            quit: quit)
        var started: [HTTPEndpoint] = []
        do {
            started.append(
                try await listen(
                    configuration.adminAddress, bothFamilies: configuration.ipv6Enabled, routes: admin,
                    limits: .longAnswers))
            started.append(
                try await listen(
                    configuration.statsAddress, routes: HTTPRoute.metrics(proxy.metrics), compressing: true))
            started.append(
                try await listen(
                    configuration.readinessAddress,
                    routes: HTTPRoute.readiness(proxy.readiness) { await proxy.stuckWorkers() }))
        } catch {
            for endpoint in started { await endpoint.close() }
            throw error
        }
        return AdminServers(endpoints: started)
    }

    public func close() async { for endpoint in endpoints { await endpoint.close() } }

    /// - Parameter bothFamilies: Whether loopback means the one of IPv6 too, where there is one.
    private static func listen(
        _ endpoint: Endpoint, bothFamilies: Bool = false, routes: [HTTPRoute], limits: HTTPEndpoint.Limits = .init(),
        compressing: Bool = false
    ) async throws -> HTTPEndpoint {
        let port = Int(endpoint.port)
        // A port that is left to the system would be another one for each family.
        if bothFamilies, endpoint.address == .loopbackV4, port > 0, hasIPv6 {
            do {
                return try await .start(
                    on: [("127.0.0.1", port), ("::1", port)], routes: routes, limits: limits, compressing: compressing)
            } catch {
                // IPv6 may be missing in more ways than the system tells of. What else is wrong comes out again below.
            }
        }
        return try await .start(
            on: [(endpoint.address.description, port)], routes: routes, limits: limits, compressing: compressing)
    }

    private static var hasIPv6: Bool {
        let setting = "/proc/sys/net/ipv6/conf/lo/disable_ipv6"
        // A kernel without IPv6 has no such file.
        guard let text = try? String(contentsOfFile: setting, encoding: .utf8) else { return false }
        return text.first != "1"
    }
}
