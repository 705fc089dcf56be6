import Discovery
import Foundation
import Observability
import Testing

@testable import Ztunnel

/// What alerts go by: whether the control plane is there, and when the first certificate ends.
@Suite("Process metrics")
struct ProcessMetricsTests {
    private static func value(_ name: String, _ registry: MetricsRegistry) -> Double? {
        registry.exposition().split(separator: "\n").first { $0.hasPrefix(name + " ") }
            .flatMap { Double($0.dropFirst(name.count + 1)) }
    }

    @Test func theTalkWithTheControlPlane() throws {
        let registry = MetricsRegistry()
        let metrics = try ProcessMetrics(registry, version: "1")
        #expect(Self.value("apus_xds_connected", registry) == nil, "there may be none to connect to")
        metrics.count(.connecting)
        #expect(Self.value("apus_xds_connected", registry) == 0)
        #expect(Self.value("apus_xds_last_message_timestamp_seconds", registry) == nil)
        metrics.count(.connected)
        #expect(Self.value("apus_xds_connected", registry) == 1)
        let before = Date().timeIntervalSince1970.rounded(.down)
        metrics.count(.received(typeURL: "t", resources: 1, removed: 0, bytes: 10))
        let last = try #require(Self.value("apus_xds_last_message_timestamp_seconds", registry))
        #expect((before...Date().timeIntervalSince1970).contains(last))
        metrics.count(.terminated(.connectionError))
        #expect(Self.value("apus_xds_connected", registry) == 0)
        #expect(Self.value("apus_xds_last_message_timestamp_seconds", registry) == last)
    }

    @Test(arguments: [nil, 1_800_000_000.0])
    func theFirstCertificateToEnd(expiry: Double?) throws {
        let registry = MetricsRegistry()
        _ = try ProcessMetrics(registry, version: "1") { expiry }
        #expect(Self.value("apus_certificate_first_expiry_timestamp_seconds", registry) == expiry)
    }
}
