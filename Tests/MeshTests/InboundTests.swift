import Addressing
import Testing

@testable import Mesh

@Suite("Where an HBONE request ends")
struct InboundTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let authority: String
        let local: String
        let expect: String
        var testDescription: String { name }

        init(_ name: String, _ authority: String, at local: String = "10.0.0.1", _ expect: String) {
            self.name = name
            self.authority = authority
            self.local = local
            self.expect = expect
        }
    }

    static let pods: [String: Workload] = [
        "10.0.0.1": pod("server", ["10.0.0.1", "fd00::1"], services: ["ns/web.ns": [80: 8080, 8: 15006]]),
        "fd00::1": pod("server", ["10.0.0.1", "fd00::1"], services: ["ns/web.ns": [80: 8080, 8: 15006]]),
        "10.0.0.2": pod("waypoint", ["10.0.0.2"], services: ["ns/waypoint.ns": [:]]),
        "10.0.0.3": pod("proxy", ["10.0.0.3"], tunnel: .init(framing: .proxy, port: 15088)),
        "10.0.0.4": pod("bare", ["10.0.0.4"], tunnel: .init(framing: .none, port: 15090)),
        "10.0.0.5": pod(
            "proxied-server", ["10.0.0.5"], tunnel: .init(framing: .proxy), services: ["ns/front.ns": [80: 8080]]),
    ]

    static let mesh = state(
        pods.filter { $0.key != "fd00::1" }.map(\.value) + [
            pod("fronted", ["10.0.1.1"], waypoint: at("ns/waypoint.ns")),
            pod("fronted-by-address", ["10.0.1.2"], waypoint: at("/10.0.0.2")),
            pod("fronted-by-vip", ["10.0.1.3"], waypoint: at("/10.1.0.2")),
            pod("fronted-elsewhere", ["10.0.1.4"], waypoint: at("ns/other.ns")),
            pod("free", ["10.0.1.5"]),
        ],
        [
            service("waypoint", ["10.1.0.2"], ports: [.init(15008, target: 15008)]),
            service("other", ["10.1.0.3"], ports: [.init(15008, target: 15008)]),
            service("web", ["10.1.0.1"], ports: [.init(80, target: 0), .init(81, target: 8181), .init(82, target: 0)]),
            service("fronted", ["10.1.0.4"], waypoint: at("ns/waypoint.ns")),
            service(
                "shared", ["10.1.0.5"],
                weighted: [.init(at("ns/other.ns"), weight: 1), .init(at("ns/waypoint.ns"), weight: 1)]),
            service("plain", ["10.1.0.6"]),
            service("front", ["other/10.1.0.7", "/fd01::7", "/10.1.0.8"], ports: [.init(80, target: 0)]),
        ])

    static let rows: [Row] = [
        Row("own address", "10.0.0.1:80", "to 10.0.0.1:80"),
        Row("own v6 address", "[fd00::1]:80", at: "fd00::1", "to [fd00::1]:80"),
        Row("own address in mapped form", "[::ffff:10.0.0.1]:80", "to 10.0.0.1:80"),
        Row(
            "another address of the pod than the tunnel came to", "[fd00::1]:80", "400 ip mismatch: 10.0.0.1 != fd00::1"
        ),
        Row("foreign address", "10.0.1.5:80", "400 ip mismatch: 10.0.0.1 != 10.0.1.5"),
        Row("unknown address", "8.8.8.8:80", "400 ip mismatch: 10.0.0.1 != 8.8.8.8"),
        Row("loopback", "127.0.0.1:80", "400 ip mismatch: 10.0.0.1 != 127.0.0.1"),
        Row("a service's address", "10.1.0.1:80", "400 ip mismatch: 10.0.0.1 != 10.1.0.1"),
        Row("host name, port of the endpoint", "web.ns:80", "to 10.0.0.1:8080"),
        Row("host name, port of the service", "web.ns:81", "to 10.0.0.1:8181"),
        Row("host name in capitals", "WEB.ns:81", "to 10.0.0.1:8181"),
        Row("host name, named port we lack", "web.ns:82", "503"),
        Row("host name, no such port", "web.ns:83", "503"),
        Row("host name nobody has", "nobody.ns:80", "503"),
        Row("ztunnel's outbound port", "10.0.0.1:15001", "503"),
        Row("ztunnel's plaintext port", "10.0.0.1:15006", "503"),
        Row("ztunnel's HBONE port", "10.0.0.1:15008", "503"),
        Row("ztunnel's port behind a host name", "web.ns:8", "503"),
        Row("admin ports are not refused here", "10.0.0.1:15000", "to 10.0.0.1:15000"),
        Row("waypoint of a pod, by host name", "10.0.1.1:80", at: "10.0.0.2", "to 10.0.0.2:80"),
        Row("waypoint of a pod, by its address", "10.0.1.2:80", at: "10.0.0.2", "to 10.0.0.2:80"),
        Row("waypoint of a pod, by its service's address", "10.0.1.3:80", at: "10.0.0.2", "to 10.0.0.2:80"),
        Row("waypoint of a service", "10.1.0.4:80", at: "10.0.0.2", "to 10.0.0.2:80"),
        Row("one of a service's waypoints", "10.1.0.5:80", at: "10.0.0.2", "to 10.0.0.2:80"),
        Row("pod with another waypoint", "10.0.1.4:80", at: "10.0.0.2", "400 ip mismatch: 10.0.0.2 != 10.0.1.4"),
        Row("pod without waypoint", "10.0.1.5:80", at: "10.0.0.2", "400 ip mismatch: 10.0.0.2 != 10.0.1.5"),
        Row("service without waypoint", "10.1.0.6:80", at: "10.0.0.2", "400 ip mismatch: 10.0.0.2 != 10.1.0.6"),
        Row("not the waypoint", "10.0.1.1:80", "400 ip mismatch: 10.0.0.1 != 10.0.1.1"),
        Row(
            "proxy of its own gets everything", "8.8.8.8:443", at: "10.0.0.3",
            "to 10.0.0.3:15088 via 127.0.0.1:15088 told 8.8.8.8:443"),
        Row("no way to its own port either", "10.0.0.3:15008", at: "10.0.0.3", "503"),
        Row("tunnel without header", "8.8.8.8:443", at: "10.0.0.4", "to 10.0.0.4:15090"),
        Row(
            "host name is told as the service's address, ours and IPv4", "front.ns:80", at: "10.0.0.5",
            "to 10.0.0.5:8080 via 127.0.0.1:8080 told 10.1.0.8:80"),
        Row("no port", "10.0.0.1", "400 malformed authority: \"10.0.0.1\""),
        Row("port zero", "10.0.0.1:0", "400 malformed authority: \"10.0.0.1:0\""),
        Row("port too large", "10.0.0.1:65536", "400 malformed authority: \"10.0.0.1:65536\""),
        Row("nothing", "", "400 malformed authority: \"\""),
        Row("line break", "a\r\nb:80", "400 malformed authority: \"a\\r\\nb:80\""),
        Row("no address", "10.0.0.256:80", "400 malformed authority: \"10.0.0.256:80\""),
        Row("v6 without brackets", "fd00::1:80", "400 malformed authority: \"fd00::1:80\""),
        Row("user part", "u@10.0.0.1:80", "400 malformed authority: \"u@10.0.0.1:80\""),
    ]

    @Test("what is asked for, and what comes of it", arguments: rows)
    func inbound(_ row: Row) throws {
        let workload = try #require(Self.pods[row.local])
        let result = Self.mesh.inboundTarget(
            authority: row.authority, localWorkload: workload, localAddress: ip(row.local))
        switch result {
        case .success(let target):
            var line = "to \(target.destination)"
            if target.dial != target.destination { line += " via \(target.dial)" }
            if let told = target.proxyProtocolDestination { line += " told \(told)" }
            #expect(line == row.expect)
            #expect(target.keepsSourceAddress == (target.dial == target.destination))
        case .failure(let rejection):
            #expect("\(rejection.status) \(rejection.message)".hasPrefix(row.expect))
            #expect(rejection.status == 400 || rejection.status == 503)
        }
    }

    @Test("the proxy is connected to at the pod's address when loopback is not wanted")
    func withoutLoopback() throws {
        let workload = try #require(Self.pods["10.0.0.3"])
        let target = try Self.mesh.inboundTarget(
            authority: "8.8.8.8:443", localWorkload: workload, localAddress: ip("10.0.0.3"), localhostTunnel: false
        ).get()
        #expect(target.dial == endpoint("10.0.0.3:15088"))
        #expect(target.keepsSourceAddress)
        #expect(target.proxyProtocolDestination == endpoint("8.8.8.8:443"))
    }

    @Test("illegal ports are the caller's to add to")
    func furtherIllegalPorts() throws {
        let workload = try #require(Self.pods["10.0.0.1"])
        let result = Self.mesh.inboundTarget(
            authority: "10.0.0.1:15080", localWorkload: workload, localAddress: ip("10.0.0.1"),
            illegalPorts: MeshPorts.illegal.union([15080]))
        #expect(throws: InboundRejection.self) { try result.get() }
    }

    @Test("each rejection has its status")
    func statuses() {
        let table: [InboundRejection.Code: Int] = [
            .badMethod: 400, .malformedAuthority: 400, .unknownLocalWorkload: 503, .destinationMismatch: 400,
            .unresolvable: 503, .illegalPort: 503, .deniedByPolicy: 401, .connectFailed: 503,
        ]
        for (code, status) in table { #expect(InboundRejection(code, "").status == status) }
        #expect(InboundRejection(AuthorizationVerdict(.notAllowed))?.status == 401)
        #expect(InboundRejection(AuthorizationVerdict(.allowedByDefault)) == nil)
    }

    @Test("the service a connection counts for: the one named if it is ours, else by target port")
    func inboundService() throws {
        let server = pod(
            "server", ["10.0.0.1"], services: ["ns/a.ns": [80: 8080], "ns/b.ns": [80: 8080], "ns/c.ns": [:]])
        let mesh = state(
            [server],
            [
                service("a", ports: [.init(80, target: 0)]), service("b", ports: [.init(80, target: 0)]),
                service("c", ports: [.init(90, target: 9090)]), service("d", ports: [.init(80, target: 8080)]),
            ])
        func found(_ port: UInt16, _ host: String?) -> String? {
            mesh.inboundService(of: server, port: port, forwardedHost: host)?.name
        }
        #expect(found(8080, "b.ns") == "b")
        #expect(found(8080, nil) == "a")
        #expect(found(8080, "d.ns") == "a")
        #expect(found(9090, nil) == "c")
        #expect(found(1, nil) == nil)
    }
}

@Suite("HBONE authority")
struct AuthorityTests {
    @Test(
        "reads what it writes",
        arguments: ["10.0.0.1:80", "[fd00::1]:65535", "web.ns.svc.cluster.local:1", "a_b-c.d:8080"])
    func roundTrip(_ text: String) {
        #expect(HBONEAuthority(text)?.description == text)
    }

    @Test("never fails on garbage, and what it takes it writes the same way")
    func fuzz() {
        var random = FixedRandom(5)
        let alphabet = Array("0123456789.:[]abcf-_%@/ \u{0}é")
        for _ in 0..<20000 {
            let text = String(
                (0..<Int.random(in: 0...30, using: &random)).map { _ in alphabet.randomElement(using: &random) ?? "a" })
            guard let authority = HBONEAuthority(text) else { continue }
            #expect(HBONEAuthority(authority.description) == authority)
            #expect(authority.port != 0)
        }
    }

    @Test("a host name of more than 253 characters is none")
    func longHost() {
        #expect(HBONEAuthority(String(repeating: "a", count: 253) + ":80") != nil)
        #expect(HBONEAuthority(String(repeating: "a", count: 254) + ":80") == nil)
    }
}
