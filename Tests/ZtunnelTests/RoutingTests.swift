import Addressing
import Foundation
import LinuxNetwork
import Mesh
import Testing

@testable import Ztunnel

/// Where connections of a captured pod go: services, waypoints, other networks.
@Suite("Routing", .serialized, .timeLimit(.minutes(3)))
struct RoutingTests {
    private static func identity(_ name: String) -> String { "spiffe://cluster.local/ns/shop/sa/\(name)" }

    @Test("service_loadbalancing: both endpoints of a service get connections")
    func serviceLoadBalancing() async throws {
        try await onNode { node in
            let client = try await node.pod("client", 1)
            let servers = [try await node.pod("one", 2), try await node.pod("two", 3)]
            node.store.apply(
                [.service(node.web()), .workload(node.workload(client))]
                    + servers.map { .workload(node.workload($0, services: [TestNode.web: PortMap([80: 8080])])) })
            try node.startProxy()
            for pod in [client] + servers { try node.enrol(pod) }
            let one = try servers[0].listen(port: 8080)
            let two = try servers[1].listen(port: 8080)
            var served: Set<CInt> = []
            try eventually("both have served", seconds: 30) {
                let connection = try client.connect(to: TestNode.vipEndpoint)
                try Talk.send(connection.raw, "x")
                var entries = [one.raw, two.raw].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
                guard poll(&entries, 2, 10_000) > 0 else { throw Unmet("nobody was connected to") }
                for entry in entries where entry.revents != 0 {
                    guard let accepted = try Sockets.accept(entry.fd) else { continue }
                    #expect(accepted.peer?.address == client.v4)
                    // Read before it is closed: what is left unread would make a reset of it.
                    #expect(try Talk.receive(accepted.descriptor.raw, 1) == "x")
                    served.insert(entry.fd)
                }
                return served.count == 2
            }
            #expect(!(try node.log().contains("error=")))
        }
    }

    @Test("an endpoint that has a host name alone is looked up when a connection goes there")
    func hostname() async throws {
        try await onNode { node in
            let client = try await node.pod("client", 1)
            node.store.apply([
                .service(node.web()), .workload(node.workload(client)),
                .workload(
                    Workload(
                        uid: "Kubernetes/networking.istio.io/ServiceEntry/shop/outside/localhost", name: "outside",
                        namespace: "shop", hostname: "localhost", services: [TestNode.web: PortMap([80: 8080])])),
            ])
            try node.startProxy()
            try node.enrol(client)
            let listener = try client.listen(port: 8080)
            for _ in 0..<2 {
                let connection = try client.connect(to: TestNode.vipEndpoint)
                try Talk.send(connection.raw, "x")
                let accepted = try Talk.accept(listener)
                defer { close(accepted.fd) }
                #expect(try Talk.receive(accepted.fd, 1) == "x")
            }
            #expect(
                node.sample("istio_on_demand_dns_total", #"hostname="localhost""#, #"source_workload="client""#) == 2)
        }
    }

    @Test("a second endpoint is tried when the first refuses, and one that goes on refusing is passed over")
    func secondEndpoint() async throws {
        try await onNode { node in
            let client = try await node.pod("client", 1)
            let (good, bad) = (try await node.pod("good", 2), try await node.pod("bad", 3))
            let services = [TestNode.web: PortMap([80: 8080])]
            node.store.apply([
                .service(node.web()), .workload(node.workload(client)),
                .workload(node.workload(good, services: services)), .workload(node.workload(bad, services: services)),
            ])
            try node.startProxy()
            for pod in [client, good, bad] { try node.enrol(pod) }
            // Nothing listens in the other pod: its ztunnel answers 503.
            let listener = try good.listen(port: 8080)
            try eventually("the endpoint that refuses is passed over", seconds: 40) {
                _ = try Held(client, to: TestNode.vipEndpoint, accepting: listener)
                return node.sample("apus_endpoint_ejections_total") > 0
            }
            let failed = node.sample(
                "istio_tcp_connections_failed_total", #"reporter="source""#, #"response_flags="UNREACHABLE""#)
            #expect(failed >= Int(EjectionTable.threshold))
            for _ in 0..<5 { _ = try Held(client, to: TestNode.vipEndpoint, accepting: listener) }
            let later = node.sample(
                "istio_tcp_connections_failed_total", #"reporter="source""#, #"response_flags="UNREACHABLE""#)
            #expect(later == failed)
            // The application never noticed, and a connection has one line.
            let errors = try node.log().split(separator: "\n").filter {
                $0.contains(#"direction="outbound""#) && $0.contains("error=")
            }
            #expect(errors.isEmpty, "\(errors)")
        }
    }

    @Test("service_waypoint: a service's traffic goes to its waypoint, asked for by VIP and port")
    func serviceWaypoint() async throws {
        try await waypoint(ofService: true)
    }

    @Test("workload_waypoint: a pod's traffic goes to its waypoint, asked for by pod address and port")
    func workloadWaypoint() async throws {
        try await waypoint(ofService: false)
    }

    @Test("service_waypoint_hostname: a waypoint is found by its service's name", arguments: [true, false])
    func serviceWaypointHostname(ofService: Bool) async throws {
        try await waypoint(ofService: ofService, GatewayAddress(.hostname(Self.gate)), isService: true)
    }

    @Test("service_waypoint_workload_hostname: a waypoint is found by a workload's own name", arguments: [true, false])
    func serviceWaypointWorkloadHostname(ofService: Bool) async throws {
        let name = NamespacedHostname(namespace: "shop", hostname: "waypoint.example.com")
        try await waypoint(ofService: ofService, GatewayAddress(.hostname(name)), hostname: name.hostname)
    }

    /// A service without an address, before waypoints or gateways.
    private static let gate = NamespacedHostname(namespace: "shop", hostname: "gate.shop.svc.cluster.local")

    private static func gateService(port: UInt16) -> Mesh.Service {
        Mesh.Service(
            name: "gate", namespace: "shop", hostname: gate.hostname, addresses: [], ports: [.init(port, target: 15008)]
        )
    }

    /// - Parameters:
    ///   - reference: How the waypoint is named; by its address when not given.
    ///   - isService: Whether there is a service before it.
    private func waypoint(
        ofService: Bool, _ reference: GatewayAddress? = nil, isService: Bool = false, hostname: String = ""
    ) async throws {
        try await onNode { node in
            let client = try await node.pod("client", 1)
            let server = try await node.pod("server", 2)
            let waypoint = try await node.pod("waypoint", 3)
            let reference = reference ?? GatewayAddress(.address(NetworkAddress(address: waypoint.v4)))
            let listener = try server.listen(port: 8080)
            let standIn = try ForeignServer(in: waypoint, with: try #require(node.certificate(of: waypoint))) { _ in
                .take(Endpoint(server.v4, 8080))
            }
            defer { standIn.stop() }
            node.store.apply([
                .service(node.web(waypoint: ofService ? reference : nil)),
                .workload(node.workload(client)), .service(Self.gateService(port: 15008)),
                .workload(
                    node.workload(waypoint, services: isService ? [Self.gate: PortMap([:])] : [:], hostname: hostname)),
                .workload(
                    node.workload(
                        server, services: [TestNode.web: PortMap([80: 8080])], waypoint: ofService ? nil : reference)),
            ])
            try node.startProxy()
            try node.enrol(client)
            // The server is not captured in this test: what goes to it directly is refused at 15008.
            let target = ofService ? TestNode.vipEndpoint : Endpoint(server.v4, 8080)
            let held = try Held(client, to: target, accepting: listener)
            #expect(held.peer?.address == waypoint.v4)
            #expect(standIn.requests.map(\.authority) == ["\(target)"])
            #expect(standIn.requests.first?.identity == Self.identity("client"))
            let headers = standIn.requests.first?.headers ?? [:]
            #expect(headers["forwarded"]?.contains("for=\"\(client.v4):") == true, "\(headers)")
            #expect(headers["forwarded"]?.contains("host=web.shop.svc.cluster.local") == ofService, "\(headers)")
            #expect(headers["baggage"]?.contains("k8s.namespace.name=shop") == true, "\(headers)")
            #expect(headers["traceparent"] != nil && headers["x-forwarded-network"] == nil)
            // The other way of addressing it does not go there.
            let other = try client.connect(to: ofService ? Endpoint(server.v4, 8080) : TestNode.vipEndpoint)
            try expectClosed(other.raw)
            #expect(standIn.requests.count == 1)
        }
    }

    @Test("an unknown waypoint refuses: there is no way around it")
    func unknownWaypoint() async throws {
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            let nowhere = GatewayAddress(.address(NetworkAddress(address: IPAddress(10, 99, 0, 77))))
            node.store.apply([
                .workload(node.workload(client)), .workload(node.workload(server, hbone: false, waypoint: nowhere)),
            ])
            let listener = try server.listen(port: 8080)
            try node.startProxy()
            try node.enrol(client)
            let refused = try client.connect(to: Endpoint(server.v4, 8080))
            try expectClosed(refused.raw)
            try eventually("the log says why") { try node.log().contains("unknown waypoint") }
            withExtendedLifetime(listener) {}
        }
    }

    @Test("a peer that refuses is told of by its reason", arguments: [401, 503, 429])
    func refusals(status: Int) async throws {
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            let standIn = try ForeignServer(in: server, with: try #require(node.certificate(of: server))) { _ in
                .refuse(status)
            }
            defer { standIn.stop() }
            node.store.apply([.workload(node.workload(client)), .workload(node.workload(server))])
            try node.startProxy()
            try node.enrol(client)
            let refused = try client.connect(to: Endpoint(server.v4, 8080))
            try expectClosed(refused.raw)
            try eventually("the log has the status") { try node.log().contains("http status: \(status)") }
            let flag = [401: "DENY", 503: "UNREACHABLE", 429: "LIMIT"][status] ?? ""
            #expect(node.sample("istio_tcp_connections_failed_total", "response_flags=\"\(flag)\"") == 1)
            #expect(standIn.requests.count == 1, "there was no other endpoint to ask")
        }
    }

    @Test(
        "double_hbone1, double_hbone2: another network is reached through its gateway, by its address or its service's name, in a tunnel of its own for each connection",
        arguments: [false, true])
    func doubleHBONE(byName: Bool) async throws {
        try await networks(accepting: "remote", gatewayByName: byName) { node, client, gateway, remote in
            let first = try remote.connect(client)
            let second = try remote.connect(client)
            try first.exchange()
            try second.exchange()
            let authority = "\(TestNode.web.hostname):80"
            #expect(gateway.requests.map(\.authority) == [authority, authority])
            #expect(gateway.requests.allSatisfy { $0.headers["x-forwarded-network"] == nil })
            #expect(Set(gateway.requests.map(\.connection)).count <= 2)
            #expect(remote.server.requests.map(\.authority) == [authority, authority])
            #expect(remote.server.requests.allSatisfy { $0.headers["x-forwarded-network"] == "here" })
            #expect(remote.server.requests.allSatisfy { $0.identity == Self.identity("client") })
            #expect(Set(remote.server.requests.map(\.connection)).count == 2, "the inner tunnel is never shared")
        }
    }

    @Test("double_hbone: the inner peer must be who the service says, not who the workload is")
    func doubleHBONEWithAnotherIdentity() async throws {
        try await networks(accepting: "somebody-else") { node, client, gateway, remote in
            let refused = try client.connect(to: TestNode.vipEndpoint)
            try? Talk.send(refused.raw, "x")
            try expectClosed(refused.raw)
            #expect(gateway.requests.count >= 1)
            #expect(remote.server.requests.isEmpty)
            try eventually("the flag says TLS") {
                node.sample("istio_tcp_connections_failed_total", #"response_flags="TLS_FAILURE""#) >= 1
            }
        }
    }

    private struct Remote {
        let server: ForeignServer
        let listener: Listener

        final class Listener {
            let socket: FileDescriptor
            init(_ socket: consuming FileDescriptor) { self.socket = socket }
        }

        func connect(_ client: TestPod) throws -> Held {
            try Held(client, to: TestNode.vipEndpoint, accepting: listener.socket)
        }
    }

    /// A client in the network `here`, a service in `there`, and the gateway between them.
    private func networks(
        accepting name: String, gatewayByName: Bool = false,
        _ body: (TestNode, TestPod, ForeignServer, Remote) throws -> Void
    ) async throws {
        try await onNode(MeshSettings(network: "here")) { node in
            let client = try await node.pod("client", 1)
            let gateway = try await node.pod("gateway", 2)
            let remote = try await node.pod("remote", 3)
            let listener = Remote.Listener(try remote.listen(port: 8080))
            let far = try ForeignServer(in: remote, with: try #require(node.certificate(of: remote))) { _ in
                .take(Endpoint(remote.v4, 8080))
            }
            let near = try ForeignServer(in: gateway, with: try #require(node.certificate(of: gateway))) { _ in
                .take(Endpoint(remote.v4, 15008))
            }
            defer {
                near.stop()
                far.stop()
            }
            // The service's port is another than the gateway's own.
            let reference =
                gatewayByName
                ? GatewayAddress(.hostname(Self.gate), port: 15009)
                : GatewayAddress(.address(NetworkAddress(network: "here", address: gateway.v4)))
            node.store.apply([
                .service(node.web(network: "here", names: [Self.identity(name)])),
                .service(Self.gateService(port: 15009)), .workload(node.workload(client, network: "here")),
                .workload(
                    node.workload(
                        gateway, services: gatewayByName ? [Self.gate: PortMap([:])] : [:], network: "here")),
                .workload(
                    node.workload(
                        remote, services: [TestNode.web: PortMap([80: 8080])], network: "there",
                        networkGateway: reference, addresses: [])),
            ])
            try node.startProxy()
            try node.enrol(client)
            try body(node, client, near, Remote(server: far, listener: listener))
        }
    }
}
