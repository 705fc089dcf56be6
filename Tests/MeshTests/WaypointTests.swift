import Addressing
import Testing

@testable import Mesh

/// Waypoints and gateways: which applies, how it is found, and that nothing goes around one that is missing.
@Suite("Waypoints and gateways")
struct WaypointTests {
    static let client = pod("client", ["10.0.0.1"])
    static let waypointPod = pod("waypoint-1", ["10.0.0.50"], account: "waypoint", services: ["ns/waypoint.ns": [:]])
    static let waypointService = service(
        "waypoint", ["10.1.0.50"], ports: [.init(15008, target: 15008)],
        names: ["spiffe://cluster.local/ns/ns/sa/extra"])
    static let backend = pod("backend", ["10.0.0.5"], services: ["ns/web.ns": [80: 8080]])

    func mesh(_ more: [Workload] = [], _ services: [Service] = [], network: String = "") -> MeshState {
        state(
            [Self.client, Self.waypointPod, Self.backend] + more, [Self.waypointService] + services,
            settings: MeshSettings(network: network))
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let reference: GatewayAddress
        let expect: String
        var testDescription: String { name }
    }

    static let found = "hbone 10.0.0.50:15008 10.1.0.5:80 [extra waypoint] for web waypoint"
    static let references: [Row] = [
        Row(name: "by host name", reference: at("ns/waypoint.ns"), expect: found),
        Row(name: "by service address", reference: at("/10.1.0.50"), expect: found),
        Row(
            name: "by pod address", reference: at("/10.0.0.50"),
            expect: "hbone 10.0.0.50:15008 10.1.0.5:80 [waypoint] for web waypoint"),
        Row(name: "unknown host name", reference: at("ns/missing.ns"), expect: "error unknownWaypoint"),
        Row(name: "unknown address", reference: at("/10.1.0.99"), expect: "error unknownWaypoint"),
        Row(name: "address of another network", reference: at("other/10.1.0.50"), expect: "error unknownWaypoint"),
        Row(name: "a port it does not have", reference: at("ns/waypoint.ns", 15009), expect: "error unknownWaypoint"),
    ]

    @Test("a service's waypoint gets the address the client used, untranslated", arguments: references)
    func destinationServiceWaypoint(_ row: Row) {
        let mesh = mesh([], [service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)], waypoint: row.reference)])
        #expect(mesh.routeLine(from: Self.client, to: "10.1.0.5:80") == row.expect)
    }

    @Test("a waypoint without a ready instance is an error and no way around")
    func emptyWaypoint() {
        let mesh = state(
            [Self.client, Self.backend],
            [
                Self.waypointService,
                service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)], waypoint: at("ns/waypoint.ns")),
            ])
        #expect(mesh.routeLine(from: Self.client, to: "10.1.0.5:80") == "error unknownWaypoint")
    }

    @Test("a passthrough service goes through its waypoint all the same")
    func passthroughServiceWithWaypoint() {
        let web = service(
            "web", ["10.1.0.5"], waypoint: at("ns/waypoint.ns"), balancing: LoadBalancing(mode: .passthrough))
        #expect(mesh([], [web]).routeLine(from: Self.client, to: "10.1.0.5:80") == Self.found)
    }

    @Test("a pod's waypoint is for traffic to the pod's address; a service's for the service's")
    func whichWaypointApplies() {
        let own = pod("own", ["10.0.0.6"], services: ["ns/web.ns": [80: 8080]], waypoint: at("ns/waypoint.ns"))
        let plain = service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)])
        let mesh = state([Self.client, Self.waypointPod, own], [Self.waypointService, plain])
        #expect(
            mesh.routeLine(from: Self.client, to: "10.0.0.6:80")
                == "hbone 10.0.0.50:15008 10.0.0.6:80 [extra waypoint] waypoint")
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.5:80")
                == "hbone 10.0.0.6:15008 10.0.0.6:8080 [own] for web")
        let fronted = service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)], waypoint: at("ns/waypoint.ns"))
        #expect(
            self.mesh([], [fronted]).routeLine(from: Self.client, to: "10.0.0.5:80")
                == "hbone 10.0.0.5:15008 10.0.0.5:80 [backend]")
    }

    @Test(
        "the waypoint itself goes straight to the pod, and only it: identity and address must both be its own",
        arguments: [
            ("waypoint", "10.0.0.50", "hbone 10.0.0.6:15008 10.0.0.6:80 [own]"),
            ("client", "10.0.0.50", "hbone 10.0.0.50:15008 10.0.0.6:80 [extra waypoint] waypoint"),
            ("waypoint", "10.0.0.77", "hbone 10.0.0.50:15008 10.0.0.6:80 [extra waypoint] waypoint"),
        ])
    func sourceWaypoint(account: String, address: String, expect: String) {
        for reference in [at("ns/waypoint.ns"), at("/10.1.0.50")] {
            let own = pod("own", ["10.0.0.6"], waypoint: reference)
            let sender = pod("waypoint-1", [address], account: account)
            var random = FixedRandom(1)
            let route = try? mesh([own]).route(
                from: sender, sourceAddress: ip(address), to: endpoint("10.0.0.6:80"), random: &random)
            #expect(route?.line == expect)
        }
    }

    @Test("a plain pod with a waypoint is reached through it")
    func plainPodWithWaypoint() {
        let own = pod("own", ["10.0.0.6"], protocol: .none, waypoint: at("/10.0.0.50"))
        #expect(
            mesh([own]).routeLine(from: Self.client, to: "10.0.0.6:80")
                == "hbone 10.0.0.50:15008 10.0.0.6:80 [waypoint] waypoint")
    }

    @Test("weighted waypoints share the traffic; without weight the plain one gets it")
    func weightedWaypoints() {
        let second = pod("second", ["10.0.0.51"], account: "second")
        func web(_ weights: [UInt32]) -> Service {
            service(
                "web", ["10.1.0.5"], ports: [.init(80, target: 80)], waypoint: at("ns/waypoint.ns"),
                weighted: zip([at("/10.0.0.50"), at("/10.0.0.51")], weights).map { .init($0, weight: $1) })
        }
        func chosen(_ weights: [UInt32]) -> [String: Int] {
            let mesh = mesh([second], [web(weights)])
            var counts: [String: Int] = [:]
            for seed in 0..<400 {
                let line = mesh.routeLine(from: Self.client, to: "10.1.0.5:80", seed: UInt64(seed))
                counts[String(line.split(separator: " ")[1]), default: 0] += 1
            }
            return counts
        }
        let shared = chosen([1, 3])
        #expect((70...130).contains(shared["10.0.0.50:15008"] ?? 0))
        #expect((270...330).contains(shared["10.0.0.51:15008"] ?? 0))
        #expect(chosen([0, 1]) == ["10.0.0.51:15008": 400])
        #expect(chosen([0, 0]) == ["10.0.0.50:15008": 400])
        #expect(chosen([]) == ["10.0.0.50:15008": 400])
    }

    @Test("a waypoint with a proxy of its own is reached on the port of its own, whatever its service lists")
    func applicationTunnel() {
        let sandwich = pod(
            "sandwich", ["10.0.0.60"], account: "waypoint", tunnel: .init(framing: .proxy, port: 15088),
            services: ["ns/sandwich.ns": [:]])
        let front = service("sandwich", ["10.1.0.60"], ports: [])
        let web = service("web", ["10.1.0.5"], ports: [.init(80, target: 80)], waypoint: at("ns/sandwich.ns"))
        #expect(
            mesh([sandwich], [front, web]).routeLine(from: Self.client, to: "10.1.0.5:80")
                == "hbone 10.0.0.60:15008 10.1.0.5:80 [waypoint] for web waypoint")
    }

    // MARK: Other networks

    static let gateway = pod("gateway", ["10.0.0.70"], account: "gateway")
    static let remoteName = "spiffe://cluster.local/ns/ns/sa/remote-service"
    static func remote(_ services: [String: PortMap], gateway: GatewayAddress? = at("/10.0.0.70")) -> Workload {
        pod("remote", [], network: "other", services: services, gateway: gateway)
    }

    @Test("a service with endpoints in another network is reached through its gateway, by name")
    func doubleHBONE() {
        let web = service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)], names: [Self.remoteName])
        let mesh = state([Self.client, Self.gateway, Self.remote(["ns/web.ns": [80: 8080]])], [web])
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.5:80")
                == "double 10.0.0.70:15008 [gateway] web.ns:80 [remote-service] for web")
    }

    @Test("without names for the service no peer of the other network is believed")
    func doubleHBONEWithoutNames() {
        let web = service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)])
        let mesh = state([Self.client, Self.gateway, Self.remote(["ns/web.ns": [80: 8080]])], [web])
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.5:80")
                == "double 10.0.0.70:15008 [gateway] web.ns:80 [] for web")
    }

    @Test("failing over to another network")
    func failoverToRemote() {
        let rule = LoadBalancing(preferences: [.network], mode: .failover)
        let web = service(
            "web", ["10.1.0.5"], ports: [.init(80, target: 8080)], names: [Self.remoteName], balancing: rule)
        var mesh = state(
            [Self.client, Self.gateway, Self.remote(["ns/web.ns": [80: 8080]]), Self.backend], [web])
        let local = "hbone 10.0.0.5:15008 10.0.0.5:8080 [remote-service backend] for web"
        #expect(mesh.routeLine(from: Self.client, to: "10.1.0.5:80") == local)
        mesh.apply(.remove(Self.backend.uid))
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.5:80")
                == "double 10.0.0.70:15008 [gateway] web.ns:80 [remote-service] for web")
        mesh.apply(.workload(Self.backend))
        #expect(mesh.routeLine(from: Self.client, to: "10.1.0.5:80") == local)
    }

    @Test("a waypoint in another network")
    func remoteWaypoint() {
        let front = service(
            "front", ["10.1.0.60"], ports: [.init(15008, target: 15008)], names: [Self.remoteName])
        let web = service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)], waypoint: at("ns/front.ns"))
        let mesh = state([Self.client, Self.gateway, Self.remote(["ns/front.ns": [:]])], [front, web])
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.5:80")
                == "double 10.0.0.70:15008 [gateway] web.ns:80 [remote-service] for web")
    }

    @Test("what is missing on the way to another network is an error")
    func remoteErrors() {
        let web = service("web", ["10.1.0.5"], ports: [.init(80, target: 8080)], names: [Self.remoteName])
        let services: [String: PortMap] = ["ns/web.ns": [80: 8080]]
        let lost = state([Self.client, Self.remote(services)], [web])
        #expect(lost.routeLine(from: Self.client, to: "10.1.0.5:80") == "error unknownNetworkGateway")
        let addressed = pod("remote", ["10.9.0.1"], network: "other", services: services)
        let closed = state([Self.client, addressed], [web])
        #expect(closed.routeLine(from: Self.client, to: "10.1.0.5:80") == "error noNetworkGateway")
        // Without address and gateway it is no endpoint at all.
        let none = state([Self.client, Self.remote(services, gateway: nil)], [web])
        #expect(none.routeLine(from: Self.client, to: "10.1.0.5:80") == "error noHealthyUpstream")
        // A gateway and no address in our own network leads nowhere either.
        let near = pod("near", [], services: services, gateway: at("/10.0.0.70"))
        let own = state([Self.client, Self.gateway, near], [web])
        #expect(own.routeLine(from: Self.client, to: "10.1.0.5:80") == "error noHealthyUpstream")
    }
}
