import Addressing
import Foundation
import LinuxNetwork
import Mesh
import TestSupport
import Testing

@testable import Ztunnel

/// Plain ZDS with a control side written apart (Tests/Peers, Python): ztunnel makes the pods' sockets itself.
@Suite("Own sockets", .serialized, .timeLimit(.minutes(3)))
struct OwnSocketsTests {
    /// Pods whose rules are Istio's, and a proxy in this process that is told about them by the foreign agent.
    private func node(_ body: (TestNode, ForeignAgent, TestPod, TestPod) async throws -> Void) async throws {
        let node = try TestNode()
        let agent = try ForeignAgent(socket: node.directory + "/zds.sock")
        let client = try await node.pod("client", 1)
        let server = try await node.pod("server", 2)
        node.store.apply([.workload(node.workload(client)), .workload(node.workload(server))])
        do {
            try node.startProxy {
                $0.makesOwnSockets = true
                $0.zdsSocket = node.directory + "/zds.sock"
            }
            let hello = try agent.tell("accept")
            #expect(hello["hello"] as? String == "0801", "no extension is offered to a control side of plain ZDS")
            for pod in [client, server] {
                // Istio's order: the rules are there before ztunnel hears of the pod.
                try agent.tell("capture", ["netns": ForeignAgent.path(pod)])
                try agent.add(pod)
            }
            #expect(try agent.tell("snapshot")["error"] as? String == "")
            try await body(node, agent, client, server)
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
        agent.end()
    }

    /// A request and its answer; returns whom the server saw.
    private func exchange(
        _ client: TestPod, _ server: TestPod, _ listener: borrowing FileDescriptor
    ) throws -> IPAddress? {
        let connection = try client.connect(to: Endpoint(server.v4, 8080))
        try Talk.send(connection.raw, "hello")
        Sockets.shutdownWrite(connection.raw)
        let accepted = try Talk.accept(listener)
        defer { close(accepted.fd) }
        #expect(try Talk.receive(accepted.fd) == "hello")
        try Talk.send(accepted.fd, "and goodbye")
        shutdown(accepted.fd, CInt(SHUT_WR))
        #expect(try Talk.receive(connection.raw) == "and goodbye")
        return accepted.peer?.address
    }

    @Test("traffic captured by Istio's rules goes through a tunnel, the client's address kept, past the first stock")
    func traffic() async throws {
        try await node { node, _, client, server in
            let listener = try server.listen(port: 8080)
            // More connections than sockets are made at first: the stock is refilled.
            for _ in 0..<40 { #expect(try exchange(client, server, listener) == client.v4) }
            try eventually("both ends have logged") { try node.log().split(separator: "\n").count == 80 }
            let log = try node.log()
            #expect(log.contains(#"src.identity="spiffe://cluster.local/ns/shop/sa/client""#), "\(log)")
            #expect(!log.contains("error="), "\(log)")
            // The lines of both ends of a connection carry one trace.
            func traces(_ direction: String) -> Set<Substring> {
                Set(
                    log.split(separator: "\n").compactMap { line in
                        let mark = line.firstRange(of: "access:\(direction){id=")
                        return mark.map { line[$0.upperBound...].prefix(32) }
                    })
            }
            #expect(traces("outbound").count == 40 && traces("outbound") == traces("inbound"))
            let metrics = node.metrics.exposition()
            #expect(metrics.contains("\nistio_tcp_sockets_open{reporter=\"source\"} 0\n"), "\(metrics)")
        }
    }

    @Test("DNS is answered where a pod is sent with its namespace alone")
    func dns() async throws {
        try await node { node, _, client, _ in
            node.store.apply([
                .service(
                    Service(
                        name: "web", namespace: "shop", hostname: "web.shop.svc.cluster.local",
                        addresses: [NetworkAddress(address: IPAddress(10, 96, 0, 80))]))
            ])
            let app = DNSApplication(pod: client)
            let query = TestMessage.query("web.shop.svc.cluster.local")
            let proxy = Endpoint(.loopbackV4, 15053)
            let reply = try #require(try app.ask(query, at: proxy))
            let streamed = try app.askOverTCP([query], at: proxy)
            for reply in [reply] + streamed { #expect(try TestMessage.addresses(reply) == ["10.96.0.80"]) }
            #expect(streamed.count == 1)
        }
    }

    @Test("10. open connections and listeners outlive the control side; kept pods go on, a deleted one is cut at once")
    func lifecycle() async throws {
        try await node { node, agent, client, server in
            let listener = try server.listen(port: 8080)
            let open = try client.connect(to: Endpoint(server.v4, 8080))
            try Talk.send(open.raw, "x")
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            #expect(try Talk.receive(accepted.fd, 1) == "x")

            try agent.tell("close")
            #expect(try exchange(client, server, listener) == client.v4)
            try agent.tell("accept")
            for pod in [client, server] { #expect(try agent.tell("keep", ["uid": pod.uid])["error"] as? String == "") }
            #expect(try agent.tell("snapshot")["error"] as? String == "")
            try Talk.send(open.raw, "y")
            #expect(try Talk.receive(accepted.fd, 1) == "y")
            #expect(try exchange(client, server, listener) == client.v4)

            #expect(try agent.tell("del", ["uid": server.uid])["error"] as? String == "")
            // The client's end of the tunnel is closed or reset; either way it ends.
            let rest = try? Talk.receive(open.raw)
            #expect(rest == nil || rest == "")
            #expect(try agent.tell("del", ["uid": server.uid])["error"] as? String == "")
        }
    }

    @Test("10. the whole program: capabilities, hostile control sides, pending pods, keep and snapshot, exit")
    func program() throws {
        let folder = FileManager.default.temporaryDirectory.path + "/own-\(UInt32.random(in: 0 ... .max))"
        // The program becomes another user and has to reach the socket in it.
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        // What is left in /tmp after a failure here is a nuisance, not an error of the test.
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let (status, text) = try PeerRun.run([
            "python3", Places.peer("own_sockets.py"), Places.products.appending(path: "apus").path, folder,
        ])
        #expect(status == 0, "\(text.suffix(6000))")
    }
}
