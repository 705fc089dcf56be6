import Addressing
import Glibc
import LinuxNetwork
import Mesh
import Netlink
import Redirection
import Testing

@testable import Ztunnel

/// Who is captured and who is not, with a ztunnel for the node and with one dedicated to a workload. The rest of the
/// anchor's matrix is an end-to-end test.
@Suite("Capture matrix", .serialized, .timeLimit(.minutes(2)))
struct CaptureMatrixTests {
    /// A ztunnel of its own for a pod; ended by the caller.
    private func dedicate(_ node: TestNode, to pod: TestPod) throws -> ZtunnelProxy? {
        let network = PodNetwork(try pod.namespace.duplicate())
        try node.startProxy {
            $0.isDedicated = true
            $0.workloadInfo = OwnWorkload("shop/\(pod.name)/\(pod.serviceAccount)")
            $0.packetMark = Mark.ztunnel
            $0.ownNetwork = network
        }
        try NftablesBackend().apply(RedirectionPlan(), in: pod.namespace)
        return node.proxy
    }

    /// Runs a scene with the client's and the server's pods; of those only the named are members of the mesh.
    private func scene(
        members: [String], _ body: (TestNode, TestPod, TestPod) async throws -> Void
    ) async throws {
        let node = try TestNode()
        let client = try await node.pod("client", 1)
        let server = try await node.pod("server", 2)
        node.store.apply(
            [client, server].map { .workload(node.workload($0, hbone: members.contains($0.name))) })
        do {
            try await body(node, client, server)
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }

    /// One exchange, five bytes there and two back; the server sees the client's own address.
    private func exchange(_ client: TestPod, _ server: TestPod) throws {
        let listener = try server.listen(port: 8080)
        let connection = try client.connect(to: Endpoint(server.v4, 8080))
        try Talk.send(connection.raw, "there")
        let accepted = try Talk.accept(listener)
        defer { close(accepted.fd) }
        #expect(try Talk.receive(accepted.fd, 5) == "there")
        #expect(accepted.peer?.address == client.v4)
        try Talk.send(accepted.fd, "ok")
        #expect(try Talk.receive(connection.raw, 2) == "ok")
    }

    private func bytes(_ node: TestNode, _ name: String, _ reporter: String) -> [Substring] {
        node.metrics.exposition().split(separator: "\n")
            .filter { $0.hasPrefix("istio_tcp_\(name)_bytes_total{reporter=\"\(reporter)\"") }
            .compactMap { $0.split(separator: " ").last }
    }

    @Test("server_uncaptured_inpod: plain text, told of by the client's side")
    func serverUncapturedInPod() async throws {
        try await scene(members: ["client"]) { node, client, server in
            try node.startProxy()
            try node.enrol(client)
            try exchange(client, server)
            #expect(try client.tunnels() == 0)
            try eventually("the line of the connection") {
                try node.log().contains(#"dst.workload="server" dst.namespace="shop""#)
                    && !node.log().contains("src.identity=")
            }
        }
    }

    @Test("12. byte direction: what the client sends is received by both reporters, and sent in the client's own log")
    func byteDirection() async throws {
        try await scene(members: ["client", "server"]) { node, client, server in
            try node.startProxy()
            for pod in [client, server] { try node.enrol(pod) }
            try exchange(client, server)
            for reporter in ["source", "destination"] {
                try eventually("the \(reporter) counts") {
                    bytes(node, "received", reporter) == ["5"] && bytes(node, "sent", reporter) == ["2"]
                }
            }
            try eventually("both have logged") { try node.log().split(separator: "\n").count == 2 }
            for line in try node.log().split(separator: "\n") {
                let isOutbound = line.contains(#"direction="outbound""#)
                #expect(
                    line.contains(isOutbound ? "bytes_sent=5 bytes_recv=2" : "bytes_sent=2 bytes_recv=5"), "\(line)")
            }
        }
    }

    @Test(
        "server_uncaptured_dedicated and 9. the mark on listeners too: what goes out is passed on, and not taken again")
    func serverUncapturedDedicated() async throws {
        try await scene(members: ["client"]) { node, client, server in
            _ = try dedicate(node, to: client)
            let listeners = try client.namespace.run { () throws(NetlinkError) in
                var diagnostics = try SocketDiagnostics()
                return try diagnostics.tcpSockets(in: [.listening])
            }
            for port: UInt16 in [15001, 15006, 15008] {
                #expect(listeners.first { $0.local.port == port }?.mark == Mark.ztunnel, "\(port)")
            }
            #expect(listeners.contains { $0.local.port == 15053 })
            try exchange(client, server)
            #expect(try client.tunnels() == 0)
        }
    }

    @Test("9. REUSEPORT before bind: a second ztunnel can listen beside the first, unless INPOD_PORT_REUSE says no")
    func portReuse() async throws {
        for isShared in [true, false] {
            try await scene(members: ["server"]) { node, client, server in
                let network = PodNetwork(try server.namespace.duplicate())
                try node.startProxy {
                    $0.isDedicated = true
                    $0.workloadInfo = OwnWorkload("shop/server/server")
                    $0.ownNetwork = network
                    $0.reusesPorts = isShared
                }
                for port: UInt16 in [15001, 15006, 15008] {
                    let bound = try? server.namespace.run { () throws(SystemError) in
                        let socket = try Sockets.tcp(dualStack: true)
                        try Sockets.setReusePort(socket.raw)
                        try Sockets.bind(socket.raw, to: Endpoint(.anyV6, port), dualStack: true)
                    }
                    #expect((bound != nil) == isShared, "\(port)")
                }
            }
        }
    }

    @Test("9. spoofed only where source and destination differ: a pod that reaches itself is seen at its own address")
    func toItself() async throws {
        try await scene(members: ["client", "server"]) { node, client, _ in
            node.store.apply([
                .service(node.web()),
                .workload(node.workload(client, services: [TestNode.web: PortMap([80: 8080])])),
            ])
            try node.startProxy()
            try node.enrol(client)
            let listener = try client.listen(port: 8080)
            let held = try Held(client, to: TestNode.vipEndpoint, accepting: listener)
            #expect(held.peer?.address == client.v4)
        }
    }

    @Test("client_uncaptured_dedicated: plain text and tunnels come in, the client's address kept")
    func clientUncapturedDedicated() async throws {
        try await scene(members: ["server"]) { node, client, server in
            _ = try dedicate(node, to: server)
            try exchange(client, server)
            let answer = try await ForeignClient.ask(
                "\(server.v4):8080", at: Endpoint(server.v4, 15008), from: client,
                with: try #require(node.certificate(of: client)), expecting: [server.identity])
            // Its application listens no more.
            #expect(answer == .status(503))
        }
    }

    @Test("cross_node_captured_dedicated: two ztunnels, each with its workload, and a tunnel between")
    func crossNodeCapturedDedicated() async throws {
        try await scene(members: ["client", "server"]) { node, client, server in
            let first = try dedicate(node, to: client)
            let second = try dedicate(node, to: server)
            try exchange(client, server)
            #expect(try client.tunnels(to: server) == 1)
            try eventually("a line from each side, with who it was") {
                let lines = try node.log().split(separator: "\n")
                return lines.count == 2 && lines.allSatisfy { $0.contains("sa/client") && $0.contains("sa/server") }
            }
            // Asked twice at once, both return when it is over.
            async let once: Void? = first?.stop()
            async let again: Void? = first?.stop()
            _ = await (once, again)
            #expect(second !== first)
        }
    }
}
