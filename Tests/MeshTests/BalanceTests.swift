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
            MeshState.rank(pod("e", [], network: network, locality: locality), onNode: false, for: client, by: rule)
        }
        let near = Locality(region: "r", zone: "z")
        let far = Locality(region: "q", zone: "z")
        #expect(rank("", near) == 5)
        #expect(rank("", far) == 3)
        #expect(rank("other", near) == 2)
        #expect(rank("other", far) == 0)
        let strict = LoadBalancing(preferences: [.network, .region], mode: .strict)
        #expect(
            MeshState.rank(pod("e", [], network: "other", locality: near), onNode: false, for: client, by: strict)
                == nil)
        #expect(MeshState.rank(pod("e", [], locality: near), onNode: false, for: client, by: strict) == 3)
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
