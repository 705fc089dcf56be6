import Addressing
import Testing

@testable import Mesh

@Suite("Endpoint sets")
struct EndpointSetTests {
    @Test("behaves as a dictionary does, and a copy does not change", arguments: [30, 1500])
    func againstModel(names: Int) {
        var random = FixedRandom(3)
        var set = EndpointSet()
        var model: [String: Workload] = [:]
        for step in 0..<6000 {
            let name = "w\(Int.random(in: 0..<names, using: &random))"
            let before = set
            let countBefore = model.count
            if let old = model.removeValue(forKey: pod(name, []).uid) { set.remove(old) }
            if Int.random(in: 0..<3, using: &random) > 0 {
                let workload = pod(
                    name, [], node: "n\(Int.random(in: 0..<5, using: &random))",
                    status: Int.random(in: 0..<4, using: &random) == 0 ? .unhealthy : .healthy,
                    locality: Locality(zone: "z\(Int.random(in: 0..<3, using: &random))"),
                    capacity: .random(in: 0..<5, using: &random))
                set.insert(workload)
                model[workload.uid] = workload
            }
            #expect(before.count == countBefore && set.count == model.count)
            if step % 500 == 0 { compare(set, model) }
        }
        for workload in model.values { set.remove(workload) }
        #expect(set.isEmpty)
    }

    private func compare(_ set: EndpointSet, _ model: [String: Workload]) {
        var seen: [Workload] = []
        set.forEach(.allowAll) {
            seen.append($0)
            return true
        }
        #expect(Dictionary(uniqueKeysWithValues: seen.map { ($0.uid, $0) }) == model)
        for health in [LoadBalancing.HealthPolicy.onlyHealthy, .allowAll] {
            let admitted = model.values.filter {
                (health == .allowAll || $0.status == .healthy) && $0.capacity > 0
            }
            let weight = set.weight(health)
            #expect(weight == admitted.reduce(0) { $0 + UInt64($1.capacity) })
            // Every point falls on one endpoint, and on each as often as it has capacity.
            var hits: [String: UInt32] = [:]
            for point in 0..<weight { hits[set.at(point)?.uid ?? "", default: 0] += 1 }
            #expect(hits == Dictionary(uniqueKeysWithValues: admitted.map { ($0.uid, $0.capacity) }))
            for node in [nil, "n2", "none"] {
                compare(set.spans(health, node: node) { Self.rank($0, $1) }, node, admitted)
            }
        }
    }

    private static func rank(_ workload: Workload, _ onNode: Bool) -> Int? {
        switch workload.locality.zone {
        case "z0": nil
        case "z1": onNode ? 2 : 1
        default: onNode ? 4 : 3
        }
    }

    private func compare(_ spans: [EndpointSet.Span], _ node: String?, _ admitted: [Workload]) {
        var byRank: [Int: Set<Workload>] = [:]
        for span in spans {
            span.forEach { workload in
                #expect(byRank[span.rank, default: []].insert(workload).inserted)
            }
            // A draw from the span falls on its own only.
            for point in span.points {
                #expect(span.tree.at(point).map { byRank[span.rank]?.contains($0) ?? false } ?? false)
            }
        }
        var expected: [Int: Set<Workload>] = [:]
        for workload in admitted {
            if let rank = Self.rank(workload, workload.node == node) { expected[rank, default: []].insert(workload) }
        }
        #expect(byRank == expected)
    }
}
