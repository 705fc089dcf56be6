import Addressing
import Glibc
import LinuxNetwork
import Mesh
import Redirection
import Testing

@testable import Ztunnel

/// ztunnel where nothing is translated: the accepted socket's own address is where the connection wanted to go.
@Suite("ztunnel behind capture by eBPF", .serialized, .timeLimit(.minutes(2)))
struct EbpfCaptureTests {
    /// Runs a scene with two pods that are members of the mesh, captured by eBPF, and one that is not.
    private func scene(_ body: (TestNode, TestPod, TestPod, TestPod) async throws -> Void) async throws {
        let node = try TestNode()
        do {
            node.backend = try EbpfBackend()
            let client = try await node.pod("client", 1)
            let server = try await node.pod("server", 2)
            let outsider = try await node.pod("outsider", 3)
            node.store.apply(
                [client, server, outsider].map { .workload(node.workload($0, hbone: $0.name != "outsider")) })
            try node.startProxy()
            for pod in [client, server] { try node.enrol(pod) }
            try await body(node, client, server, outsider)
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }

    /// One exchange; the server sees the client's own address.
    private func exchange(_ client: TestPod, _ server: TestPod, port: UInt16 = 8080) throws {
        let listener = try server.listen(port: port)
        let connection = try client.connect(to: Endpoint(server.v4, port))
        try Talk.send(connection.raw, "there")
        let accepted = try Talk.accept(listener)
        defer { close(accepted.fd) }
        #expect(try Talk.receive(accepted.fd, 5) == "there")
        #expect(accepted.peer?.address == client.v4)
        try Talk.send(accepted.fd, "ok")
        #expect(try Talk.receive(connection.raw, 2) == "ok")
    }

    @Test("between members over mutual TLS, from outside and to outside in the clear; the client's address is kept")
    func matrix() async throws {
        try await scene { node, client, server, outsider in
            try exchange(client, server)
            try eventually("both ends count it as mutual TLS") {
                node.sample("istio_tcp_connections_opened_total", "security_policy=\"mutual_tls\"") == 2
            }
            try exchange(outsider, server)
            try exchange(client, outsider)
            try exchange(server, server)
        }
    }

    @Test("ztunnel's own ports: the pod's own are refused, another host's are its business")
    func ownPorts() async throws {
        try await scene { node, client, server, outsider in
            for port: UInt16 in [15001, 15006] {
                let before = node.sample("istio_tcp_connections_opened_total")
                for caller in [server, outsider] {
                    let call = try caller.connect(to: Endpoint(server.v4, port))
                    // It may have been closed already.
                    try? Talk.send(call.raw, "GET / HTTP/1.1\r\n\r\n")
                    let rest = try? Talk.receive(call.raw)
                    #expect(rest?.contains("HTTP") != true, "\(caller.name) to \(port)")
                }
                #expect(node.sample("istio_tcp_connections_opened_total") == before)
                try exchange(client, outsider, port: port)
            }
        }
    }

    @Test("DNS is answered in the name of the server that was asked, over UDP and TCP; the rest is forwarded")
    func dns() async throws {
        let rig = try await DNSProxyTests.Rig(backend: EbpfBackend())
        do {
            let server = try rig.serve { [TestMessage.reply($0.bytes, [1, 2])] }
            let asked = Endpoint(rig.other.v4, 53)
            let query = TestMessage.query("web.shop.svc.cluster.local")
            // The application's socket is connected: only the very server's answer gets through.
            let reply = try #require(try rig.app.ask(query, at: asked))
            #expect(try TestMessage.addresses(reply) == ["10.96.0.80"])
            let both = try rig.app.askOverTCP([query, TestMessage.query("web", id: 8)], at: asked)
            #expect(try both.map { try TestMessage.addresses($0) } == [["10.96.0.80"], ["10.96.0.80"]])
            let v6 = Endpoint(try #require(IPAddress("fd00:99::20")), 53)
            #expect(try TestMessage.addresses(#require(try rig.app.ask(query, at: v6))) == ["10.96.0.80"])
            #expect(server.heard.isEmpty)

            let forwarded = try #require(try rig.app.ask(TestMessage.query("www.example.com", id: 77), at: asked))
            #expect(try TestMessage.addresses(forwarded) == ["10.0.0.1", "10.0.0.2"])
            #expect(server.heard.first?.source?.address == rig.pod.v4)
        } catch {
            Issue.record("\(error)\n\(rig.node.evidence)")
        }
        await rig.end()
    }
}
