import Addressing
import Foundation
import LinuxNetwork
import Mesh
import Testing

@testable import Ztunnel

/// The data path with everything real but the control plane: namespaces, rules, the keeper, TLS.
@Suite("Data path", .serialized, .timeLimit(.minutes(2)))
struct DataPathTests {
    private func node(
        hbone: Bool = true, _ configure: (inout ZtunnelConfiguration) -> Void = { _ in },
        _ body: (TestNode, TestPod, TestPod) async throws -> Void
    ) async throws {
        let node = try TestNode()
        let client = try await node.pod("client", 1)
        let server = try await node.pod("server", 2)
        node.store.apply([.workload(node.workload(client)), .workload(node.workload(server, hbone: hbone))])
        do {
            try node.startProxy(configure)
            try node.enrol(client)
            if hbone { try node.enrol(server) }
            try await body(node, client, server)
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }

    @Test(
        "a request and its answer go through a tunnel, half-close both ways, the client's address kept",
        arguments: [false, true])
    func tunnel(v6: Bool) async throws {
        try await node { node, client, server in
            let listener = try server.listen(port: 8080)
            let address = v6 ? server.v6 : server.v4
            let connection = try client.connect(to: Endpoint(address, 8080))
            try Talk.send(connection.raw, "hello")
            Sockets.shutdownWrite(connection.raw)
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            #expect(accepted.peer?.address == (v6 ? client.v6 : client.v4))
            #expect(try Talk.receive(accepted.fd) == "hello")
            try Talk.send(accepted.fd, "and goodbye")
            shutdown(accepted.fd, CInt(SHUT_WR))
            #expect(try Talk.receive(connection.raw) == "and goodbye")
            try eventually("both ends have logged") { try node.log().split(separator: "\n").count == 2 }
            let log = try node.log()
            #expect(log.contains(#"src.identity="spiffe://cluster.local/ns/shop/sa/client""#), "\(log)")
            #expect(log.contains(#"direction="outbound""#) && log.contains(#"direction="inbound""#), "\(log)")
            #expect(!log.contains("error="), "\(log)")
        }
    }

    @Test("an application that speaks first is heard, also by a client after one that spoke first")
    func speakers() async throws {
        try await node { node, client, server in
            let listener = try server.listen(port: 8080)
            // Each is dialed as suits the one before it.
            for clientBegins in [true, true, false, true, false, false] {
                let connection = try client.connect(to: Endpoint(server.v4, 8080))
                if clientBegins { try Talk.send(connection.raw, "me") }
                let accepted = try Talk.accept(listener)
                defer { close(accepted.fd) }
                if !clientBegins {
                    try Talk.send(accepted.fd, "you")
                    #expect(try Talk.receive(connection.raw, 3) == "you")
                    try Talk.send(connection.raw, "me")
                }
                #expect(try Talk.receive(accepted.fd, 2) == "me")
                shutdown(accepted.fd, CInt(SHUT_WR))
                #expect(try Talk.receive(connection.raw) == "")
                Sockets.shutdownWrite(connection.raw)
                #expect(try Talk.receive(accepted.fd) == "")
            }
            try eventually("all have ended in order") { try node.log().split(separator: "\n").count == 12 }
            #expect(try !node.log().contains("error="))
        }
    }

    @Test("a pod outside the mesh is reached in plain TCP")
    func passthrough() async throws {
        try await node(hbone: false) { node, client, server in
            let listener = try server.listen(port: 8080)
            let connection = try client.connect(to: Endpoint(server.v4, 8080))
            try Talk.send(connection.raw, "plain")
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            #expect(accepted.peer?.address == client.v4)
            #expect(try Talk.receive(accepted.fd, 5) == "plain")
        }
    }

    @Test("a deny policy refuses, cuts what is open, and the log names it; without it the next connection works")
    func policy() async throws {
        try await node { node, client, server in
            let listener = try server.listen(port: 8080)
            let open = try client.connect(to: Endpoint(server.v4, 8080))
            try Talk.send(open.raw, "x")
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            #expect(try Talk.receive(accepted.fd, 1) == "x")

            let deny = AuthorizationPolicy(
                name: "no-client", namespace: "shop", scope: .namespace, action: .deny,
                rules: [.init(clauses: [.init(matches: [.init(principals: [.exact(client.identity.principal)])])])])
            node.store.apply([.policy("shop/no-client", deny)])
            #expect(throws: (any Error).self) {
                let rest = try Talk.receive(open.raw)
                throw Unmet("closed after \(rest.count) bytes")
            }
            let refused = try client.connect(to: Endpoint(server.v4, 8080))
            #expect(throws: (any Error).self) {
                let rest = try Talk.receive(refused.raw)
                throw Unmet("closed after \(rest.count) bytes")
            }
            try eventually("the log names the policy") {
                try node.log().contains("explicitly denied by: shop/no-client")
            }
            #expect(try node.log().contains("connection closed due to policy change"))

            node.store.apply([.removePolicy("shop/no-client")])
            let again = try client.connect(to: Endpoint(server.v4, 8080))
            try Talk.send(again.raw, "y")
            let next = try Talk.accept(listener)
            defer { close(next.fd) }
            #expect(try Talk.receive(next.fd, 1) == "y")
        }
    }
}
