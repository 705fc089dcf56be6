import Addressing
import Foundation
import LinuxNetwork
import Mesh
import Testing

@testable import Ztunnel

/// Who shares a tunnel, and what happens when one is full.
@Suite("Tunnels", .serialized, .timeLimit(.minutes(2)))
struct TunnelPoolTests {
    @Test(
        "14. pool key: two pods of one service account never share a tunnel: the server sees each client's own address")
    func serviceAccountShared() async throws {
        try await onNode { node in
            let one = try await node.pod("one", 1, serviceAccount: "buyer")
            let two = try await node.pod("two", 2, serviceAccount: "buyer")
            let server = try await node.pod("server", 3)
            node.store.apply([one, two, server].map { .workload(node.workload($0)) })
            try node.startProxy { $0.workers = 1 }
            for pod in [one, two, server] { try node.enrol(pod) }
            let listener = try server.listen(port: 8080)
            for _ in 0..<3 {
                for pod in [one, two] {
                    let held = try Held(pod, to: Endpoint(server.v4, 8080), accepting: listener)
                    #expect(held.peer?.address == pod.v4)
                }
            }
            #expect(try one.tunnels(to: server) == 1)
            #expect(try two.tunnels(to: server) == 1)
        }
    }

    @Test("a full tunnel gets company, and returns to use when its connections end")
    func fullTunnels() async throws {
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            node.store.apply([.workload(node.workload(client)), .workload(node.workload(server))])
            try node.startProxy {
                $0.workers = 1
                $0.streamsPerTunnel = 2
            }
            try node.enrol(client)
            try node.enrol(server)
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            func hold() throws -> Held { try Held(client, to: target, accepting: listener) }
            let kept = try hold()
            do {
                let others = (try hold(), try hold(), try hold(), try hold())
                #expect(try client.tunnels(to: server) == 3)
                try others.3.exchange()
            }
            try kept.exchange()
            let ended = #"reporter="source""#
            try eventually("the four are over") { node.sample("istio_tcp_connections_closed_total", ended) == 4 }
            // Five fit into the three there are.
            let again = (try hold(), try hold(), try hold(), try hold(), try hold())
            #expect(try client.tunnels(to: server) == 3)
            try again.4.exchange()
            try kept.exchange()
        }
    }

    @Test("tunnels to one peer spread over the workers: each has its own, and no more")
    func workers() async throws {
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            node.store.apply([.workload(node.workload(client)), .workload(node.workload(server))])
            try node.startProxy {
                $0.workers = 2
                $0.streamsPerTunnel = 10_000
            }
            try node.enrol(client)
            try node.enrol(server)
            let listener = try server.listen(port: 8080)
            // Many at once, so that one worker's turn does not do for all.
            try eventually("both workers have one", seconds: 60) {
                var held = try (0..<64).map { _ in try client.connect(to: Endpoint(server.v4, 8080)).release() }
                defer { for fd in held { close(fd) } }
                for fd in held { try Talk.send(fd, "x") }
                for _ in 0..<64 { held.append(try Talk.accept(listener).fd) }
                let tunnels = try client.tunnels(to: server)
                #expect(tunnels == 1 || tunnels == 2)
                return tunnels == 2
            }
        }
    }

    @Test("14. a peer that takes one stream at a time does not make others wait")
    func peerLimit() async throws {
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            let listener = try server.listen(port: 8080)
            let standIn = try ForeignServer(
                in: server, with: try #require(node.certificate(of: server)), maximumStreams: 1
            ) { _ in .take(Endpoint(server.v4, 8080)) }
            defer { standIn.stop() }
            node.store.apply([.workload(node.workload(client)), .workload(node.workload(server))])
            try node.startProxy { $0.workers = 1 }
            try node.enrol(client)
            // All at once, so that they are asked for before the peer has said how many it takes.
            let connections = try (0..<3).map { _ in try client.connect(to: Endpoint(server.v4, 8080)).release() }
            defer { for connection in connections { close(connection) } }
            var accepted: [CInt] = []
            defer { for fd in accepted { close(fd) } }
            for connection in connections { try Talk.send(connection, "x") }
            for _ in connections { accepted.append(try Talk.accept(listener).fd) }
            for fd in accepted { #expect(try Talk.receive(fd, 1) == "x") }
            #expect(try client.tunnels(to: server) == 3)
        }
    }
}
