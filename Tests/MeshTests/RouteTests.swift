import Addressing
import Testing

@testable import Mesh

/// Destinations of a mesh that has one of each kind.
@Suite("Routing")
struct RouteTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let to: String
        let expect: String
        var testDescription: String { name }
    }

    static let client = pod(
        "client", ["10.0.0.1", "fd00::1"], locality: Locality(region: "r", zone: "z", subzone: "s"))

    static let mesh = state(
        [
            client,
            pod("plain", ["10.0.0.2"], protocol: .none),
            pod("remote-plain", ["10.0.1.2"], protocol: .none, node: "remote"),
            pod("near", ["10.0.0.3"]),
            pod("far", ["10.0.1.3"], node: "remote"),
            pod("host", ["192.168.0.1"], mode: .hostNetwork),
            pod("other-network", ["10.9.0.1"], network: "other"),
            pod("dual", ["10.0.0.4", "fd00::4"], services: ["ns/v4.ns": [80: 8080], "ns/v6.ns": [80: 8080]]),
            pod("web", ["10.0.0.5", "fd00::5"], services: ["ns/web.ns": [80: 8080, 443: 8443]]),
            pod("numeric", ["10.0.0.6"], services: ["ns/numeric.ns": [:]]),
            pod("sick", ["10.0.0.7"], services: ["ns/sick.ns": [80: 80], "ns/all.ns": [80: 80]], status: .unhealthy),
            pod("named", [], hostname: "example.com", protocol: .none, services: ["ns/named.ns": [443: 443]]),
            pod("idle", ["10.0.0.8"], services: ["ns/idle.ns": [80: 80]], capacity: 0),
            pod("unfit", ["10.0.0.9"], services: ["ns/unfit.ns": [81: 81]]),
        ],
        [
            service("web", ["10.1.0.5", "fd01::5"], ports: [.init(80, target: 8080), .init(443, target: 0)]),
            service(
                "numeric", ["10.1.0.6"], ports: [.init(80, target: 9090)], names: ["spiffe://t/ns/ns/sa/extra", "x"]),
            service("empty", ["10.1.0.7"], ports: [.init(80, target: 80)]),
            service("sick", ["10.1.0.8"], ports: [.init(80, target: 80)]),
            service(
                "all", ["10.1.0.9"], ports: [.init(80, target: 80)],
                balancing: LoadBalancing(healthPolicy: .allowAll)),
            service("through", ["10.1.0.10"], ports: [], balancing: LoadBalancing(mode: .passthrough)),
            service("v4", ["10.1.0.11", "fd01::11"], ports: [.init(80, target: 8080)], families: .v4Only),
            service("v6", ["10.1.0.12", "fd01::12"], ports: [.init(80, target: 8080)], families: .v6Only),
            service("named", ["10.1.0.13"], ports: [.init(443, target: 443)]),
            service("idle", ["10.1.0.14"], ports: [.init(80, target: 80)]),
            service("unfit", ["10.1.0.15"], ports: [.init(80, target: 0)]),
            service("block", blocks: [NetworkCIDR(cidr: CIDR("10.2.0.0/16") ?? CIDR(.anyV4))], ports: []),
        ])

    static let rows: [Row] = [
        Row(name: "unknown destination", to: "1.2.3.4:80", expect: "passthrough 1.2.3.4:80"),
        Row(name: "unknown v6 destination", to: "[2001:db8::1]:80", expect: "passthrough [2001:db8::1]:80"),
        Row(name: "known destination, local node, tcp", to: "10.0.0.2:80", expect: "tcp 10.0.0.2:80"),
        Row(name: "known destination, remote node, tcp", to: "10.0.1.2:80", expect: "tcp 10.0.1.2:80"),
        Row(
            name: "known destination, local node, hbone", to: "10.0.0.3:80",
            expect: "hbone 10.0.0.3:15008 10.0.0.3:80 [near]"),
        Row(
            name: "known destination, remote node, hbone", to: "10.0.1.3:80",
            expect: "hbone 10.0.1.3:15008 10.0.1.3:80 [far]"),
        Row(
            name: "mapped destination is the IPv4 one", to: "[::ffff:10.0.1.3]:80",
            expect: "hbone 10.0.1.3:15008 10.0.1.3:80 [far]"),
        Row(name: "host network is not found by address", to: "192.168.0.1:80", expect: "passthrough 192.168.0.1:80"),
        Row(name: "address of another network", to: "10.9.0.1:80", expect: "passthrough 10.9.0.1:80"),
        Row(
            name: "target port of the endpoint", to: "10.1.0.5:443",
            expect: "hbone 10.0.0.5:15008 10.0.0.5:8443 [web] for web"),
        Row(
            name: "target port of the service", to: "10.1.0.6:80",
            expect: "hbone 10.0.0.6:15008 10.0.0.6:9090 [extra numeric] for numeric"),
        Row(name: "port the service lacks", to: "10.1.0.5:81", expect: "error noHealthyUpstream"),
        Row(name: "named port the endpoint lacks", to: "10.1.0.15:80", expect: "error noHealthyUpstream"),
        Row(name: "empty service", to: "10.1.0.7:80", expect: "error noHealthyUpstream"),
        Row(name: "unhealthy endpoints only", to: "10.1.0.8:80", expect: "error noHealthyUpstream"),
        Row(
            name: "unhealthy endpoints, all allowed", to: "10.1.0.9:80",
            expect: "hbone 10.0.0.7:15008 10.0.0.7:80 [sick] for all"),
        Row(name: "capacity zero", to: "10.1.0.14:80", expect: "error noHealthyUpstream"),
        Row(name: "passthrough service", to: "10.1.0.10:9999", expect: "passthrough 10.1.0.10:9999"),
        Row(
            name: "address family of the client", to: "[fd01::5]:80",
            expect: "hbone [fd00::5]:15008 [fd00::5]:8080 [web] for web"),
        Row(
            name: "service of IPv4 alone", to: "[fd01::11]:80",
            expect: "hbone 10.0.0.4:15008 10.0.0.4:8080 [dual] for v4"),
        Row(
            name: "service of IPv6 alone", to: "10.1.0.12:80",
            expect: "hbone [fd00::4]:15008 [fd00::4]:8080 [dual] for v6"),
        Row(
            name: "workload of several addresses, the one asked for", to: "[fd00::4]:80",
            expect: "hbone [fd00::4]:15008 [fd00::4]:80 [dual]"),
        Row(name: "host name not resolved", to: "10.1.0.13:443", expect: "error needsResolution"),
        Row(name: "address block without endpoints", to: "10.2.3.4:80", expect: "error noHealthyUpstream"),
    ]

    @Test("where a connection goes", arguments: rows)
    func route(_ row: Row) {
        #expect(Self.mesh.routeLine(from: Self.client, to: row.to) == row.expect)
    }

    @Test("host name resolved: an address of the client's family, else another, else an error")
    func resolved() {
        let mesh = Self.mesh
        let both = ["example.com": [ip("2001:db8::9"), ip("198.51.100.9")]]
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.13:443", resolved: both) == "tcp 198.51.100.9:443 for named")
        let one = ["example.com": [ip("2001:db8::9")]]
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.13:443", resolved: one) == "tcp [2001:db8::9]:443 for named")
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.13:443", resolved: ["example.com": []])
                == "error noAddressResolved")
    }

    @Test("the error that asks for resolution says of what")
    func resolutionNames() {
        var random = FixedRandom(1)
        #expect {
            try Self.mesh.route(
                from: Self.client, sourceAddress: ip("10.0.0.1"), to: endpoint("10.1.0.13:443"), random: &random)
        } throws: {
            ($0 as? RouteError)?.hostname == "example.com"
        }
    }

    @Test("a workload that has a service's address is what is meant by it, and its waypoint is not the service's")
    func lookupOrderDiffers() {
        // Workload before service for the waypoint, service before workload for the way (16.1).
        let shadow = pod("shadow", ["10.1.0.20"])
        let backend = pod("backend", ["10.0.0.20"], services: ["ns/both.ns": [80: 8080]])
        let mesh = state(
            [Self.client, shadow, backend],
            [service("both", ["10.1.0.20"], ports: [.init(80, target: 8080)], waypoint: at("ns/waypoint.ns"))])
        #expect(
            mesh.routeLine(from: Self.client, to: "10.1.0.20:80")
                == "hbone 10.0.0.20:15008 10.0.0.20:8080 [backend] for both")
        // No service was addressed, so a service without endpoint is passed through.
        #expect(mesh.routeLine(from: Self.client, to: "10.1.0.20:81") == "passthrough 10.1.0.20:81")
    }

    @Test("of workloads with one address a pod wins, then HBONE")
    func sharedAddress() {
        let entry = Workload(
            uid: "Kubernetes/networking.istio.io/WorkloadEntry/ns/entry", name: "entry", namespace: "ns",
            addresses: [ip("10.0.0.9")], tunnelProtocol: .hbone)
        let plain = pod("plain", ["10.0.0.9"], protocol: .none)
        let tunnelled = pod("tunnelled", ["10.0.0.9"])
        for order in [[entry, plain, tunnelled], [tunnelled, plain, entry], [plain, tunnelled, entry]] {
            #expect(state(order).workload(at: ip("10.0.0.9"))?.name == "tunnelled")
        }
        #expect(state([entry, plain]).workload(at: ip("10.0.0.9"))?.name == "plain")
    }
}

@Suite("Which service an address or a host name means")
struct ServiceChoiceTests {
    func names(_ services: [Service], from namespace: String) -> [String?] {
        let mesh = state([], services)
        return [
            mesh.service(at: ip("10.1.0.1"), from: namespace)?.namespace,
            mesh.service(hostname: "shared", from: namespace)?.namespace,
        ]
    }

    func shared(
        _ namespace: String, canonical: Bool = false, visibility: Service.Visibility = .everywhere
    ) -> Service {
        service(
            "shared", ["10.1.0.1"], namespace: namespace, canonical: canonical, visibility: visibility,
            hostname: "shared")
    }

    @Test("own namespace, then the last canonical one, then the first")
    func preference() {
        let services = [shared("a"), shared("b", canonical: true), shared("c", canonical: true), shared("d")]
        #expect(names(services, from: "d") == ["d", "d"])
        #expect(names(services, from: "other") == ["c", "c"])
        #expect(names([shared("a"), shared("d")], from: "other") == ["a", "a"])
    }

    @Test("a service of its namespace alone is not there for others")
    func visibility() {
        let hidden = shared("a", canonical: true, visibility: .namespace)
        #expect(names([hidden], from: "a") == ["a", "a"])
        #expect(names([hidden], from: "b") == [nil, nil])
        #expect(names([hidden, shared("c")], from: "b") == ["c", "c"])
    }

    @Test("blocks: own namespace, then longest prefix, then canonical; behind every exact address one may see")
    func blocks() throws {
        func block(_ namespace: String, _ cidr: String, canonical: Bool = false, network: String = "") throws -> Service
        {
            service(
                "b-\(namespace)", namespace: namespace,
                blocks: [NetworkCIDR(network: network, cidr: try #require(CIDR(cidr)))], canonical: canonical)
        }
        let mesh = state(
            [],
            [
                try block("wide", "10.0.0.0/8"), try block("narrow", "10.3.0.0/16"),
                try block("narrow-canonical", "10.3.0.0/16", canonical: true),
                try block("elsewhere", "10.3.0.0/24", network: "other"), try block("six", "fd00::/16"),
                service("exact", ["10.3.0.1"], namespace: "exact"),
                service("hidden", ["10.3.0.2"], namespace: "hidden", visibility: .namespace),
            ])
        func found(_ address: String, _ namespace: String) -> String? {
            mesh.service(at: ip(address), from: namespace)?.namespace
        }
        #expect(found("10.9.9.9", "x") == "wide")
        #expect(found("10.3.9.9", "x") == "narrow-canonical")
        #expect(found("10.3.9.9", "narrow") == "narrow")
        #expect(found("10.3.9.9", "wide") == "wide")
        #expect(found("10.3.0.1", "wide") == "exact")
        #expect(found("10.3.0.2", "hidden") == "hidden")
        #expect(found("10.3.0.2", "x") == "narrow-canonical")
        #expect(found("11.0.0.1", "x") == nil)
        #expect(found("fd00::1", "x") == "six")
        #expect(mesh.service(at: ip("10.3.0.9"), network: "other", from: "x")?.namespace == "elsewhere")
    }
}
