import Addressing
import Foundation
import Identity
import LinuxNetwork
import Mesh
import Testing

@testable import Ztunnel

/// What comes to a pod from outside: plain connections, and clients on 15008 that are no ztunnel.
@Suite("Inbound", .serialized, .timeLimit(.minutes(2)))
struct InboundTests {
    /// A server in the mesh, and an outsider that is not.
    private func node(_ body: (TestNode, TestPod, TestPod) async throws -> Void) async throws {
        let node = try TestNode()
        let server = try await node.pod("server", 1)
        let outsider = try await node.pod("outsider", 2)
        node.store.apply([
            .workload(node.workload(server)), .workload(node.workload(outsider, hbone: false)),
        ])
        do {
            try node.startProxy()
            try node.enrol(server)
            try await body(node, server, outsider)
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }

    private func converse(_ server: TestPod, _ outsider: TestPod, _ listener: borrowing FileDescriptor) throws {
        let connection = try outsider.connect(to: Endpoint(server.v4, 8080))
        try Talk.send(connection.raw, "ping")
        let accepted = try Talk.accept(listener)
        defer { close(accepted.fd) }
        #expect(accepted.peer?.address == outsider.v4)
        #expect(try Talk.receive(accepted.fd, 4) == "ping")
    }

    @Test("a plain client is served from its own address, and STRICT refuses it")
    func plaintext() async throws {
        try await node { node, server, outsider in
            let listener = try server.listen(port: 8080)
            try converse(server, outsider, listener)

            let strict = AuthorizationPolicy(
                name: "istio_converted_static_strict", namespace: "istio-system", scope: .workloadSelector,
                action: .deny, rules: [.init(clauses: [.init(matches: [.init(notPrincipals: [.presence])])])])
            node.store.apply([
                .policy("istio-system/istio_converted_static_strict", strict),
                .workload(node.workload(server, policies: ["istio-system/istio_converted_static_strict"])),
            ])
            let refused = try outsider.connect(to: Endpoint(server.v4, 8080))
            #expect(throws: (any Error).self) {
                let rest = try Talk.receive(refused.raw)
                throw Unmet("closed after \(rest.count) bytes")
            }
            try eventually("the log names the policy") {
                try node.log().contains("explicitly denied by: istio-system/istio_converted_static_strict")
            }
            // A client with a certificate is welcome still.
            let answer = try await ForeignClient.ask(
                "\(server.v4):8080", at: Endpoint(server.v4, 15008), from: outsider,
                with: try #require(node.certificate(of: outsider)), expecting: [server.identity])
            #expect(answer == .status(200))
        }
    }

    @Test("requests are checked in order, each with its status, and the next good one works")
    func requests() async throws {
        try await node { node, server, outsider in
            let listener = try server.listen(port: 8080)
            let certificate = try #require(node.certificate(of: outsider))
            let table: [(String, Int)] = [
                ("\(outsider.v4):8080", 400), ("127.0.0.1:8080", 400), ("no-port", 400), ("\(server.v4):0", 400),
                ("\(server.v4):15001", 503), ("\(server.v4):15006", 503), ("\(server.v4):15008", 503),
                ("nobody.example:80", 503), ("\(server.v4):9", 503), ("\(server.v4):8080", 200),
            ]
            for (authority, status) in table {
                let answer = try await ForeignClient.ask(
                    authority, at: Endpoint(server.v4, 15008), from: outsider, with: certificate,
                    expecting: [server.identity])
                #expect(answer == .status(status), "\(authority)")
            }
            withExtendedLifetime(listener) {}
        }
    }

    @Test("certificates of another authority or trust domain, and no TLS at all, end at the handshake")
    func certificates() async throws {
        try await node { node, server, outsider in
            let good = try #require(node.certificate(of: outsider))
            let address = Endpoint(server.v4, 15008)
            let strangers = [
                try await node.stranger(trustDomain: "cluster.local", trusting: good),
                try await node.stranger(trustDomain: "elsewhere.example", trusting: good),
            ]
            for stranger in strangers {
                let answer = try await ForeignClient.ask(
                    "\(server.v4):8080", at: address, from: outsider, with: stranger, expecting: [server.identity])
                #expect(answer == .refused("tls"))
            }
            let plain = try outsider.connect(to: address)
            try Talk.send(plain.raw, "GET / HTTP/1.1\r\nHost: server\r\n\r\n")
            // An alert, or nothing, but no answer.
            let rest = try? Talk.receive(plain.raw)
            #expect(rest?.contains("HTTP") != true)
            try eventually("the log tells of the failures") {
                try node.log().split(separator: "\n").filter { $0.contains("connection failed") }.count >= 3
            }
            let listener = try server.listen(port: 8080)
            let answer = try await ForeignClient.ask(
                "\(server.v4):8080", at: address, from: outsider, with: good, expecting: [server.identity])
            #expect(answer == .status(200))
            withExtendedLifetime(listener) {}
        }
    }
}
