import Observability
import TLSEngine

/// What revocation did, with Istio's names where it has them.
final class RevocationMetrics: Sendable {
    private let rejections: CounterFamily
    private let untracked: CounterFamily
    private let certificates: Gauge
    private let overdue: Gauge
    private let usable: Gauge

    init(_ registry: MetricsRegistry) throws {
        rejections = try registry.counter(
            "istio_crl_policy_rejections", "Handshakes refused because the peer's certificate is revoked (unstable)",
            labels: ["reporter"])
        untracked = try registry.counter(
            "istio_crl_untracked_connections",
            "Tunnels that a later revocation of their peer would not end (unstable)", labels: ["reporter"])
        certificates = try registry.gauge(
            "apus_crl_revoked_certificates", "Entries of all revocation lists (unstable)"
        ).with([])
        overdue = try registry.gauge(
            "apus_crl_overdue_lists", "Revocation lists past their next update (unstable)"
        ).with([])
        usable = try registry.gauge(
            "apus_crl_usable", "1 while the revocation lists can be used, 0 while new tunnels are refused (unstable)"
        ).with([])
    }

    func rejected(_ role: TLSContext.Role) { rejections.with([Self.reporter(role)]).add(1) }
    func untracked(_ role: TLSContext.Role) { untracked.with([Self.reporter(role)]).add(1) }

    func loaded(_ lists: RevocationLists, overdue count: Int) {
        certificates.set(Int64(lists.count))
        overdue.set(Int64(count))
        usable.set(1)
    }

    func unusable() { usable.set(0) }

    private static func reporter(_ role: TLSContext.Role) -> String { role == .server ? "destination" : "source" }
}
