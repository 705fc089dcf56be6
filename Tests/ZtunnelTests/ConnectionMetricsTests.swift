import LinuxNetwork
import Mesh
import Observability
import Testing

@testable import Ztunnel

@Suite("Connection metrics")
struct ConnectionMetricsTests {
    let registry = MetricsRegistry()
    let metrics: ConnectionMetrics

    init() throws { metrics = try ConnectionMetrics(registry) }

    private static let minute: UInt64 = 60 * 1_000_000_000

    private func workload(_ name: String) -> Workload {
        Workload(uid: "Kubernetes//Pod/shop/\(name)-1", name: "\(name)-1", namespace: "shop", workloadName: name)
    }

    private func party(_ name: String) -> Party {
        let workload = workload(name)
        return Party(workload: workload, principal: workload.identity)
    }

    private func mesh(_ names: String...) -> MeshState {
        var state = MeshState()
        _ = state.apply(names.map { .workload(workload($0)) })
        return state
    }

    private func report(_ counters: ConnectionCounters, _ log: AccessLog) -> ConnectionReport {
        ConnectionReport(
            log: log, counters: counters,
            record: AccessRecord(
                kind: .complete, source: .init(address: "10.0.0.1:1"), destination: .init(address: "10.0.0.2:2"),
                direction: .outbound), startedAt: MonotonicClock.now)
    }

    private func lines(_ name: String) -> [Substring] {
        registry.exposition().split(separator: "\n").filter { $0.hasPrefix(name + "{") }
    }

    private func log() throws -> AccessLog {
        let pair = try SeqpacketSocket.Pair()
        return try AccessLog(sink: .descriptor(pair.first.raw))
    }

    @Test("opened, closed and bytes have one label set however a connection ends; failed says how")
    func sameLabels() throws {
        let log = try log()
        let cache = CounterCache(metrics)
        let counters = cache.counters(
            .source, source: party("a"), destination: party("b"), service: nil, security: .mutualTLS)
        report(counters, log).finish(nil)
        report(counters, log).finish(.init(text: "denied", flag: .denied))
        let open = report(counters, log)
        open.requestBytes(7)
        func labels(_ name: String) -> [Substring] {
            lines(name).compactMap { $0.split(separator: "}").first?.split(separator: "{").last }
        }
        let opened = labels("istio_tcp_connections_opened_total")
        #expect(opened.count == 1)
        #expect(opened.first?.contains(#"response_flags="-""#) == true)
        #expect(labels("istio_tcp_connections_closed_total") == opened)
        #expect(labels("istio_tcp_received_bytes_total") == opened)
        #expect(labels("istio_tcp_sent_bytes_total") == opened)
        #expect(lines("istio_tcp_connections_opened_total").first?.hasSuffix("} 3") == true)
        #expect(lines("istio_tcp_connections_closed_total").first?.hasSuffix("} 2") == true)
        let failed = lines("istio_tcp_connections_failed_total")
        #expect(failed.count == 1)
        #expect(failed.first?.contains(#"response_flags="DENY""#) == true)
        open.finish(nil)
        #expect(lines("istio_tcp_connections_closed_total").first?.hasSuffix("} 3") == true)
    }

    @Test("a series stays while its pods are in the mesh, however long it is idle")
    func stays() {
        _ = metrics.counters(
            labels("a", "b"), source: party("a"), destination: party("b"), now: 0)
        for hour in 1...48 { metrics.sweep(mesh("a", "b"), at: UInt64(hour) * 60 * Self.minute) }
        #expect(metrics.seriesCount == 1)
    }

    private func labels(_ source: String, _ destination: String) -> TelemetryLabels {
        TelemetryLabels(
            reporter: .source, source: party(source).peer, destination: party(destination).peer, service: nil,
            security: .mutualTLS)
    }

    @Test("of a pod that is gone the last values are shown for the grace period, then every series of it goes")
    func goes() throws {
        let log = try log()
        let counters = metrics.counters(labels("a", "b"), source: party("a"), destination: party("b"), now: 0)
        report(counters, log).finish(.init(text: "refused", flag: .connectFailure))
        metrics.sweep(mesh("b"), at: Self.minute)
        metrics.sweep(mesh("b"), at: 5 * Self.minute)
        #expect(lines("istio_tcp_connections_closed_total").count == 1)
        metrics.sweep(mesh("b"), at: 6 * Self.minute)
        #expect(lines("istio_tcp_connections_closed_total").count == 1, "announced, not yet taken out")
        metrics.sweep(mesh("b"), at: 7 * Self.minute)
        #expect(metrics.seriesCount == 0)
        for name in ["opened", "closed", "failed"] { #expect(lines("istio_tcp_connections_\(name)_total").isEmpty) }
        #expect(lines("istio_tcp_sent_bytes_total").isEmpty)
    }

    @Test("an open connection keeps its series, and its end is seen")
    func openKeeps() throws {
        let log = try log()
        let counters = metrics.counters(labels("a", "b"), source: party("a"), destination: party("b"), now: 0)
        let open = report(counters, log)
        for minute in 1...60 { metrics.sweep(mesh("b"), at: UInt64(minute) * Self.minute) }
        #expect(metrics.seriesCount == 1)
        open.finish(nil)
        metrics.sweep(mesh("b"), at: 61 * Self.minute)
        #expect(lines("istio_tcp_connections_closed_total").first?.hasSuffix("} 1") == true)
        for minute in 62...70 { metrics.sweep(mesh("b"), at: UInt64(minute) * Self.minute) }
        #expect(metrics.seriesCount == 0)
    }

    @Test("a worker that knows a series from before asks again when it is announced, and none is counted unseen")
    func announced() throws {
        let log = try log()
        let cache = CounterCache(metrics)
        func counters() -> ConnectionCounters {
            cache.counters(.source, source: a, destination: b, service: nil, security: .mutualTLS)
        }
        let (a, b) = (party("a"), party("b"))
        report(counters(), log).finish(nil)
        let now = MonotonicClock.now
        metrics.sweep(mesh("b"), at: now)
        metrics.sweep(mesh("b"), at: now + 6 * Self.minute)
        #expect(counters().isRetired == false)
        report(counters(), log).finish(nil)
        metrics.sweep(mesh("b"), at: now + 7 * Self.minute)
        #expect(lines("istio_tcp_connections_opened_total").first?.hasSuffix("} 2") == true)
        metrics.sweep(mesh("b"), at: now + 20 * Self.minute)
        metrics.sweep(mesh("b"), at: now + 21 * Self.minute)
        #expect(metrics.seriesCount == 0)
        report(counters(), log).finish(nil)
        #expect(lines("istio_tcp_connections_opened_total").first?.hasSuffix("} 1") == true)
    }

    @Test("a peer known only by what it says of itself goes after an hour")
    func stranger() {
        let stranger = Party(baggage: Baggage(headerValue: "k8s.namespace.name=x,k8s.deployment.name=y"))
        let own = party("b")
        let labels = TelemetryLabels(
            reporter: .destination, source: stranger.peer, destination: own.peer, service: nil, security: .mutualTLS)
        _ = metrics.counters(labels, source: stranger, destination: own, now: 0)
        metrics.sweep(mesh("b"), at: 59 * Self.minute)
        metrics.sweep(mesh("b"), at: 60 * Self.minute)
        #expect(metrics.seriesCount == 1)
        metrics.sweep(mesh("b"), at: 61 * Self.minute)
        #expect(metrics.seriesCount == 0)
    }

    @Test("what a worker has not used for long it lets go")
    func trim() {
        let cache = CounterCache(metrics)
        let (a, b, c) = (party("a"), party("b"), party("c"))
        _ = cache.counters(.source, source: a, destination: b, service: nil, security: .unknown)
        _ = cache.counters(.source, source: a, destination: c, service: nil, security: .unknown)
        for _ in 0..<25 {
            cache.trim()
            _ = cache.counters(.source, source: a, destination: b, service: nil, security: .unknown)
        }
        #expect(cache.count == 1)
    }
}
