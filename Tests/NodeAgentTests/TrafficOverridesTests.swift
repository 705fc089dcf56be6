import Handover
import ObjectSource
import Testing

@testable import NodeAgent

@Suite("What annotations ask of ztunnel")
struct TrafficOverridesTests {
    @Test("annotations that limit connections, and the end of a pod, are for ztunnel")
    func trafficOverrides() {
        func read(_ limit: String?, _ rate: String? = nil, deleted: Bool = false) -> TrafficOverrides {
            var annotations: [String: String] = [:]
            annotations["apus.dev/connection-limit"] = limit
            annotations["apus.dev/connection-rate"] = rate
            return TrafficOverrides(
                ObjectMeta(name: "p", annotations: annotations, deletionTimestamp: deleted ? 1 : nil))
        }
        #expect(read(nil).settings == .none)
        #expect(read("100", "7").settings == PodSettings(connectionLimit: 100, connectionRate: 7))
        #expect(read(nil, deleted: true).settings.isTerminating)
        for wrong in ["0", "-1", "1.5", "", "many", "10000001", "99999999999", "+5", " 5"] {
            let overrides = read(wrong, "5")
            #expect(overrides.settings == PodSettings(connectionRate: 5), "\(wrong)")
            #expect(overrides.invalid.count == 1 && overrides.invalid[0].contains("apus.dev/connection-limit"))
        }
    }
}
