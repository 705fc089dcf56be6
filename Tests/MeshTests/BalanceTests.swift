import Addressing
import Testing

@testable import Mesh

@Suite("Load balancing")
struct BalanceTests {
    /// How often each endpoint is chosen in a thousand draws.
    func counts(_ mesh: MeshState, from source: Workload, to destination: String = "10.1.0.1:80") -> [String: Int] {
        var random = FixedRandom(7)
        var counts: [String: Int] = [:]
        for _ in 0..<1000 {
            let route = try? mesh.route(
                from: source, sourceAddress: source.addresses[0], to: endpoint(destination), random: &random)
            guard case .hbone(let chosen) = route else {
                counts["none", default: 0] += 1
                continue
            }
            counts[chosen.workload.name, default: 0] += 1
        }
        return counts
    }

    func endpoints(_ names: [(String, Locality, String)], capacity: UInt32 = 1) -> [Workload] {
        names.enumerated().map { index, entry in
            pod(
                entry.0, ["10.0.1.\(index + 1)"], node: entry.2, services: ["ns/s.ns": [80: 80]], locality: entry.1,
                capacity: capacity)
        }
    }

    func mesh(_ endpoints: [Workload], _ balancing: LoadBalancing?) -> MeshState {
        state(endpoints, [service("s", ["10.1.0.1"], ports: [.init(80, target: 80)], balancing: balancing)])
    }

    let client = pod("client", ["10.0.0.1"], node: "n1", locality: Locality(region: "r", zone: "z", subzone: "s"))
    var spread: [Workload] {
        endpoints([
            ("same-node", Locality(region: "r", zone: "z", subzone: "s"), "n1"),
            ("same-subzone", Locality(region: "r", zone: "z", subzone: "s"), "n2"),
            ("same-zone", Locality(region: "r", zone: "z", subzone: "t"), "n3"),
            ("same-region", Locality(region: "r", zone: "y", subzone: "s"), "n4"),
            ("far", Locality(region: "q", zone: "z", subzone: "s"), "n5"),
        ])
    }

    @Test("by capacity, and every endpoint gets its share")
    func capacity() {
        let many = [
            pod("one", ["10.0.1.1"], services: ["ns/s.ns": [80: 80]], capacity: 1),
            pod("three", ["10.0.1.2"], services: ["ns/s.ns": [80: 80]], capacity: 3),
            pod("none", ["10.0.1.3"], services: ["ns/s.ns": [80: 80]], capacity: 0),
        ]
        let counts = counts(mesh(many, nil), from: client)
        #expect((200...300).contains(counts["one"] ?? 0))
        #expect((700...800).contains(counts["three"] ?? 0))
        #expect(counts["none"] == nil)
    }

    @Test("without a mode the preferences are ignored")
    func standardMode() {
        let rule = LoadBalancing(preferences: [.region, .zone])
        #expect(Set(counts(mesh(spread, rule), from: client).keys) == Set(spread.map(\.name)))
    }

    @Test("FAILOVER takes the nearest there are", arguments: 0..<5)
    func failover(without nearest: Int) {
        let rule = LoadBalancing(preferences: [.region, .zone, .subzone, .node], mode: .failover)
        let left = Array(spread.dropFirst(nearest))
        #expect(counts(mesh(left, rule), from: client) == [left[0].name: 1000])
    }

    @Test("STRICT takes those that match everything or none")
    func strict() {
        let rule = LoadBalancing(preferences: [.region, .zone, .subzone, .node], mode: .strict)
        #expect(counts(mesh(spread, rule), from: client) == ["same-node": 1000])
        #expect(counts(mesh(Array(spread.dropFirst()), rule), from: client) == ["none": 1000])
    }

    @Test("internalTrafficPolicy Local is STRICT by node")
    func localOnly() {
        let rule = LoadBalancing(preferences: [.node], mode: .strict)
        #expect(counts(mesh(spread, rule), from: client) == ["same-node": 1000])
    }

    @Test("a leading NETWORK outweighs everything and does not end the count")
    func networkFirst() {
        let rule = LoadBalancing(preferences: [.network, .region, .zone], mode: .failover)
        func rank(_ network: String, _ locality: Locality) -> Int? {
            MeshState.rank(pod("e", [], network: network, locality: locality), for: client, by: rule)
        }
        let near = Locality(region: "r", zone: "z")
        let far = Locality(region: "q", zone: "z")
        #expect(rank("", near) == 5)
        #expect(rank("", far) == 3)
        #expect(rank("other", near) == 2)
        #expect(rank("other", far) == 0)
        let strict = LoadBalancing(preferences: [.network, .region], mode: .strict)
        #expect(MeshState.rank(pod("e", [], network: "other", locality: near), for: client, by: strict) == nil)
        #expect(MeshState.rank(pod("e", [], locality: near), for: client, by: strict) == 3)
    }

    @Test("an endpoint without the named port is passed over, also when most are")
    func namedPorts() {
        var pods = (1...200).map { pod("lacks-\($0)", ["10.0.2.\($0)"], services: ["ns/s.ns": [:]]) }
        pods.append(pod("has", ["10.0.1.1"], services: ["ns/s.ns": [80: 8080]]))
        let mesh = state(pods, [service("s", ["10.1.0.1"], ports: [.init(80, target: 0)])])
        #expect(counts(mesh, from: client) == ["has": 1000])
    }

    @Test("an endpoint that turns unhealthy is left, and taken again when it is well")
    func health() {
        var mesh = mesh(spread, nil)
        let sick = pod(
            "far", ["10.0.1.5"], node: "n5", services: ["ns/s.ns": [80: 80]], status: .unhealthy,
            locality: Locality(region: "q", zone: "z", subzone: "s"))
        mesh.apply(.workload(sick))
        #expect(counts(mesh, from: client)["far"] == nil)
        mesh.apply(.workload(spread[4]))
        #expect(counts(mesh, from: client)["far"] != nil)
        // A service that comes to allow all of them finds those that were unhealthy before.
        mesh.apply(.workload(sick))
        mesh.apply(
            .service(
                service(
                    "s", ["10.1.0.1"], ports: [.init(80, target: 80)], balancing: LoadBalancing(healthPolicy: .allowAll)
                )))
        #expect(counts(mesh, from: client)["far"] != nil)
    }
}

@Suite("Endpoint sets")
struct EndpointSetTests {
    @Test("behaves as a dictionary does, and a copy does not change")
    func againstModel() {
        var random = FixedRandom(3)
        var set = EndpointSet()
        var model: [String: Workload] = [:]
        for step in 0..<4000 {
            let name = "w\(Int.random(in: 0..<300, using: &random))"
            let before = set
            let countBefore = model.count
            if Bool.random(using: &random) {
                let workload = pod(
                    name, [], status: Int.random(in: 0..<4, using: &random) == 0 ? .unhealthy : .healthy,
                    capacity: .random(in: 0..<5, using: &random))
                set.insert(workload)
                model[workload.uid] = workload
            } else {
                let uid = pod(name, []).uid
                set.remove(uid)
                model[uid] = nil
            }
            #expect(before.count == countBefore)
            guard step % 100 == 0 else { continue }
            var seen: [Workload] = []
            set.forEach(.allowAll) {
                seen.append($0)
                return true
            }
            #expect(Dictionary(uniqueKeysWithValues: seen.map { ($0.uid, $0) }) == model)
            for uid in model.keys { #expect(set[uid] == model[uid]) }
            for health in [LoadBalancing.HealthPolicy.onlyHealthy, .allowAll] {
                let admitted = model.values.filter { health == .allowAll || $0.status == .healthy }
                let weight = set.weight(health)
                #expect(weight == admitted.reduce(0) { $0 + UInt64($1.capacity) })
                // Every point falls on one endpoint, and on each as often as it has capacity.
                var hits: [String: UInt32] = [:]
                for point in 0..<weight { hits[set.at(point)?.uid ?? "", default: 0] += 1 }
                #expect(
                    hits
                        == Dictionary(
                            uniqueKeysWithValues: admitted.filter { $0.capacity > 0 }.map { ($0.uid, $0.capacity) }))
            }
        }
    }
}
