import Addressing
import Testing

@testable import Mesh

@Suite("Routing around endpoints that failed")
struct AlternativeTests {
    static let client = pod("client", ["10.0.0.1"], locality: Locality(region: "r"))
    static let near = Locality(region: "r")
    static let far = Locality(region: "q")

    func hops(_ mesh: MeshState, to destination: String, avoiding: [String]) -> Set<String> {
        var random = FixedRandom(5)
        var names: Set<String> = []
        for _ in 0..<100 {
            let route = try? mesh.route(
                from: Self.client, sourceAddress: ip("10.0.0.1"), to: endpoint(destination),
                avoiding: Set(avoiding.map { pod($0, []).uid }), random: &random)
            names.insert(route?.nextHop?.name ?? "none")
        }
        return names
    }

    @Test("another endpoint is chosen; when all are to be avoided any is")
    func endpoints() {
        let of: [String: PortMap] = ["ns/s.ns": [80: 80]]
        let mesh = state(
            ["a", "b", "c"].enumerated().map { pod($1, ["10.0.1.\($0 + 1)"], services: of) },
            [service("s", ["10.1.0.1"], ports: [.init(80, target: 80)])])
        #expect(hops(mesh, to: "10.1.0.1:80", avoiding: []) == ["a", "b", "c"])
        #expect(hops(mesh, to: "10.1.0.1:80", avoiding: ["a"]) == ["b", "c"])
        #expect(hops(mesh, to: "10.1.0.1:80", avoiding: ["a", "c"]) == ["b"])
        #expect(hops(mesh, to: "10.1.0.1:80", avoiding: ["a", "b", "c"]) == ["a", "b", "c"])
        // A pod that is addressed itself has no alternative.
        #expect(hops(mesh, to: "10.0.1.1:80", avoiding: ["a"]) == ["a"])
    }

    @Test("a farther endpoint rather than one to avoid, where the mode allows it")
    func localities() {
        let of: [String: PortMap] = ["ns/s.ns": [80: 80]]
        let pods = [
            pod("near", ["10.0.1.1"], services: of, locality: Self.near),
            pod("far", ["10.0.1.2"], services: of, locality: Self.far),
        ]
        func mesh(_ mode: LoadBalancing.Mode) -> MeshState {
            state(
                pods,
                [
                    service(
                        "s", ["10.1.0.1"], ports: [.init(80, target: 80)],
                        balancing: LoadBalancing(preferences: [.region], mode: mode))
                ])
        }
        #expect(hops(mesh(.failover), to: "10.1.0.1:80", avoiding: ["near"]) == ["far"])
        #expect(hops(mesh(.strict), to: "10.1.0.1:80", avoiding: ["near"]) == ["near"])
    }

    @Test("another instance of a waypoint, another gateway")
    func gateways() {
        let waypoints: [String: PortMap] = ["ns/waypoint.ns": [:]]
        let gateways: [String: PortMap] = ["ns/gateway.ns": [15008: 15008]]
        let mesh = state(
            [
                pod("w1", ["10.0.1.1"], services: waypoints), pod("w2", ["10.0.1.2"], services: waypoints),
                pod("g1", ["10.0.2.1"], services: gateways), pod("g2", ["10.0.2.2"], services: gateways),
                pod("remote", [], network: "other", services: ["ns/far.ns": [80: 80]], gateway: at("ns/gateway.ns")),
            ],
            [
                service("waypoint", ["10.1.0.50"], ports: [.init(15008, target: 15008)]),
                service("gateway", ["10.1.0.51"], ports: [.init(15008, target: 15008)]),
                service("web", ["10.1.0.1"], ports: [.init(80, target: 80)], waypoint: at("ns/waypoint.ns")),
                service("far", ["10.1.0.2"], ports: [.init(80, target: 80)]),
            ])
        #expect(hops(mesh, to: "10.1.0.1:80", avoiding: ["w1"]) == ["w2"])
        #expect(hops(mesh, to: "10.1.0.2:80", avoiding: ["g2"]) == ["g1"])
        #expect(hops(mesh, to: "10.1.0.2:80", avoiding: ["remote", "g1"]) == ["g2"])
    }
}
