import Addressing
import Foundation
import HBONE
import LinuxNetwork
import Mesh
import Testing

@testable import Ztunnel

/// What a pod may be asked for on 15008, and what its application is told.
@Suite("Inbound targets", .serialized, .timeLimit(.minutes(2)))
struct ApplicationTunnelTests {
    private func ask(
        _ authority: String, _ node: TestNode, _ server: TestPod, from outsider: TestPod
    ) async throws -> ForeignClient.Answer {
        try await ForeignClient.ask(
            authority, at: Endpoint(server.v4, 15008), from: outsider,
            with: try #require(node.certificate(of: outsider)), expecting: [server.identity])
    }

    /// Asks while the test plays the application.
    private func asking(
        _ authority: String, _ node: TestNode, _ server: TestPod, from outsider: TestPod
    ) throws -> ForeignClient.Question {
        try ForeignClient.begin(
            authority, at: Endpoint(server.v4, 15008), from: outsider,
            with: try #require(node.certificate(of: outsider)), expecting: [server.identity])
    }

    private func scene(
        _ tunnel: Workload.ApplicationTunnel? = nil, services: [NamespacedHostname: PortMap] = [:],
        target: UInt16 = 8080,
        _ body: (TestNode, TestPod, TestPod) async throws -> Void
    ) async throws {
        try await onNode { node in
            let (server, outsider) = (try await node.pod("server", 1), try await node.pod("outsider", 2))
            node.store.apply([
                .service(node.web(target: target)),
                .workload(node.workload(server, services: services, applicationTunnel: tunnel)),
                .workload(node.workload(outsider, hbone: false)),
            ])
            try node.startProxy()
            try node.enrol(server)
            try await body(node, server, outsider)
        }
    }

    @Test("sandwich_waypoint_proxy_protocol: the application on loopback is told client, destination and identity")
    func proxyProtocol() async throws {
        try await scene(.init(framing: .proxy, port: 9090)) { node, server, outsider in
            let listener = try server.listen(port: 9090, on: .loopbackV4.mapped)
            // Any address: the application decides what it stands for.
            let answer = try asking("10.99.0.77:80", node, server, from: outsider)
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            #expect(accepted.peer?.address.isLoopback == true)
            var bytes = [UInt8](repeating: 0, count: 512)
            try Talk.ready(accepted.fd, POLLIN, "the header")
            let count = recv(accepted.fd, &bytes, bytes.count, 0)
            #expect(try await answer.value == .status(200))
            let (header, length) = try #require(try ProxyHeader.parse(Array(bytes.prefix(max(count, 0))).span.bytes))
            #expect(length == count)
            #expect(header.ends?.source.address == outsider.v4)
            #expect(header.ends?.destination == Endpoint(IPAddress(10, 99, 0, 77), 80))
            #expect(header.clientIdentity == outsider.identity)
            // Its own address is reached as before; loopback's listener is not for everybody.
            #expect(try await ask("\(server.v4):15008", node, server, from: outsider) == .status(503))
        }
    }

    @Test("sandwich_waypoint_plain: without the PROXY protocol only the port is another")
    func plain() async throws {
        try await scene(.init(framing: .none, port: 9090)) { node, server, outsider in
            let listener = try server.listen(port: 9090)
            let answer = try asking("10.99.0.77:80", node, server, from: outsider)
            let accepted = try Talk.accept(listener)
            close(accepted.fd)
            #expect(accepted.peer?.address == outsider.v4)
            #expect(try await answer.value == .status(200))
        }
    }

    @Test("hbone_ip_mismatch: another address than the pod's is refused with 400, and nothing is connected to")
    func addressMismatch() async throws {
        try await scene { node, server, outsider in
            let listener = try server.listen(port: 8080)
            #expect(try await ask("\(outsider.v4):8080", node, server, from: outsider) == .status(400))
            #expect(try await ask("10.99.0.200:80", node, server, from: outsider) == .status(400))
            var entry = pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0)
            #expect(poll(&entry, 1, 0) == 0)
            try eventually("the log tells both addresses") {
                try node.log().contains("ip mismatch: \(server.v4) != \(outsider.v4)")
            }
        }
    }

    @Test("test_svc_hostname_port: a service's name and port lead to the pod's port")
    func serviceHostname() async throws {
        try await scene { node, server, outsider in
            let listener = try server.listen(port: 8080)
            let name = TestNode.web.hostname
            #expect(try await ask("\(name):80", node, server, from: outsider) == .status(200))
            #expect(try await ask("\(name):81", node, server, from: outsider) == .status(503))
            withExtendedLifetime(listener) {}
        }
    }

    @Test("test_svc_hostname_named_port: a named port is the pod's own business")
    func serviceNamedPort() async throws {
        try await scene(services: [TestNode.web: PortMap([80: 8081])], target: 0) { node, server, outsider in
            let listener = try server.listen(port: 8081)
            #expect(try await ask("\(TestNode.web.hostname):80", node, server, from: outsider) == .status(200))
            withExtendedLifetime(listener) {}
        }
    }

    @Test("an illegal port is refused after it was resolved: a service port that leads to 15008 is one too")
    func illegalResolvedPort() async throws {
        try await scene(target: 15008) { node, server, outsider in
            #expect(try await ask("\(TestNode.web.hostname):80", node, server, from: outsider) == .status(503))
            try eventually("the log says so") { try node.log().contains("attempted recursive call to ourselves") }
        }
    }

    @Test("5. 200 comes after policy and the application's accept: 401 for the one, 503 for the other")
    func orderOfChecks() async throws {
        try await scene { node, server, outsider in
            // Nothing listens, and policy refuses: policy is asked first.
            node.store.apply([
                .policy(
                    "shop/no",
                    AuthorizationPolicy(
                        name: "no", namespace: "shop", scope: .namespace, action: .deny, rules: [.init()]))
            ])
            #expect(try await ask("\(server.v4):8080", node, server, from: outsider) == .status(401))
            // Malformed and foreign requests do not even get there.
            #expect(try await ask("\(outsider.v4):8080", node, server, from: outsider) == .status(400))
            node.store.apply([.removePolicy("shop/no")])
            #expect(try await ask("\(server.v4):8080", node, server, from: outsider) == .status(503))
            let listener = try server.listen(port: 8080)
            #expect(try await ask("\(server.v4):8080", node, server, from: outsider) == .status(200))
            withExtendedLifetime(listener) {}
        }
    }

    @Test("calls to ztunnel's own ports on the pod's own address and on loopback end, and leave no loop")
    func recursiveCalls() async throws {
        try await scene { node, server, outsider in
            let own: [UInt16] = [15001, 15006, 15008]
            for port in own {
                for address in [server.v4, .loopbackV4] {
                    let call = try server.connect(to: Endpoint(address, port))
                    // 15008 waits for TLS; what it gets is none. The others may have closed already.
                    try? Talk.send(call.raw, "GET / HTTP/1.1\r\n\r\n")
                    let rest = try? Talk.receive(call.raw)
                    #expect(rest?.contains("HTTP") != true, "\(address):\(port)")
                }
                let call = try outsider.connect(to: Endpoint(server.v4, port))
                try? Talk.send(call.raw, "GET / HTTP/1.1\r\n\r\n")
                let rest = try? Talk.receive(call.raw)
                #expect(rest?.contains("HTTP") != true, "from outside to \(port)")
            }
            for direction in ["outbound", "inbound"] {
                try eventually("refusals on the way \(direction) are counted") {
                    node.sample("apus_early_denials_total", "direction=\"\(direction)\"", #"reason="recursive""#) > 0
                }
            }
            // A loop would go on opening connections.
            #expect(node.sample("istio_tcp_connections_opened_total") == 0)
            let listener = try server.listen(port: 8080)
            #expect(try await ask("\(server.v4):8080", node, server, from: outsider) == .status(200))
            withExtendedLifetime(listener) {}
        }
    }
}
