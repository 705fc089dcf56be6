import Addressing
import Foundation
import Handover
import LinuxNetwork
import Mesh
import Testing

@testable import Ztunnel

/// What happens to connections when policy, pods and ztunnel itself change under them.
@Suite("Connections and changes", .serialized, .timeLimit(.minutes(3)))
struct LifecycleTests {
    private static let policyText = "connection closed due to policy change"

    /// A server, a client in the mesh and one outside of it.
    private func scene(
        settings: PodSettings = .none, policies: [String] = [],
        _ configure: (inout ZtunnelConfiguration) -> Void = { _ in },
        _ body: (TestNode, TestPod, TestPod, TestPod) async throws -> Void
    ) async throws {
        try await onNode { node in
            let server = try await node.pod("server", 1)
            let client = try await node.pod("client", 2)
            let outsider = try await node.pod("outsider", 3)
            node.store.apply([
                .workload(node.workload(server, policies: policies)), .workload(node.workload(client)),
                .workload(node.workload(outsider, hbone: false)),
            ])
            try node.startProxy(configure)
            try node.enrol(server, settings: settings)
            try node.enrol(client)
            try await body(node, server, client, outsider)
        }
    }

    private static func denyAll(_ name: String, in namespace: String, _ scope: AuthorizationPolicy.Scope)
        -> AuthorizationPolicy
    {
        AuthorizationPolicy(name: name, namespace: namespace, scope: scope, action: .deny, rules: [.init()])
    }

    @Test("test_policy: what a new policy denies is closed at once, in tunnels and in plain, and the flag says DENY")
    func closedByPolicy() async throws {
        try await scene { node, server, client, outsider in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            let tunnelled = try Held(client, to: target, accepting: listener)
            let plain = try Held(outsider, to: target, accepting: listener)
            node.store.apply([.policy("shop/no", Self.denyAll("no", in: "shop", .namespace))])
            for held in [tunnelled, plain] {
                try expectClosed(held.client.raw)
                try expectClosed(held.server)
            }
            try eventually("both have their line") {
                try node.log().components(separatedBy: Self.policyText).count == 3
            }
            for security in ["mutual_tls", "unknown"] {
                #expect(
                    node.sample(
                        "istio_tcp_connections_failed_total", #"reporter="destination""#, #"response_flags="DENY""#,
                        "connection_security_policy=\"\(security)\"") == 1, "\(security)")
            }
        }
    }

    @Test("a policy that begins to apply because the workload changes closes too, and one of others touches nothing")
    func closedByLabels() async throws {
        try await scene { node, server, client, outsider in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            // Known, and not for this workload.
            node.store.apply([
                .policy("shop/later", Self.denyAll("later", in: "shop", .workloadSelector)),
                .policy("other/no", Self.denyAll("no", in: "other", .namespace)),
            ])
            let tunnelled = try Held(client, to: target, accepting: listener)
            let plain = try Held(outsider, to: target, accepting: listener)
            node.store.apply([
                .policy("other/more", Self.denyAll("more", in: "other", .namespace)),
                .workload(node.workload(client, policies: ["shop/later"])),
            ])
            try tunnelled.exchange()
            try plain.exchange()
            node.store.apply([.workload(node.workload(server, policies: ["shop/later"]))])
            try expectClosed(tunnelled.client.raw)
            try expectClosed(plain.client.raw)
            try eventually("both have their line") {
                try node.log().components(separatedBy: Self.policyText).count == 3
            }
        }
    }

    @Test("a policy that is listed and not known yet closes nothing that is open; once it is known it does")
    func listedBeforeKnown() async throws {
        try await scene { node, server, client, outsider in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            let tunnelled = try Held(client, to: target, accepting: listener)
            let plain = try Held(outsider, to: target, accepting: listener)
            node.store.apply([.workload(node.workload(server, policies: ["shop/later"]))])
            try tunnelled.exchange()
            try plain.exchange()
            node.store.apply([.policy("shop/later", Self.denyAll("later", in: "shop", .workloadSelector))])
            try expectClosed(tunnelled.client.raw)
            try expectClosed(plain.client.raw)
        }
    }

    @Test("8. registration precedes the first check: a change while the application is being connected to is not lost")
    func changedWhileConnecting() async throws {
        try await scene { node, server, client, _ in
            // A full backlog: the connection to the application stays on its way.
            let listener = FileDescriptor(
                owning: try server.namespace.run { () throws(SystemError) in
                    let socket = try Sockets.tcp(dualStack: true)
                    try Sockets.bind(socket.raw, to: Endpoint(.anyV6, 8080), dualStack: true)
                    try Sockets.listen(socket.raw, backlog: 0)
                    return socket.release()
                })
            let target = Endpoint(server.v4, 8080)
            let fillers = try (0..<2).map { _ in try server.connect(to: target).release() }
            defer { for filler in fillers { close(filler) } }
            let waiting = try client.connect(to: target)
            try Talk.send(waiting.raw, "x")
            try eventually("the request is at the server's ztunnel") {
                node.sample("istio_tcp_connections_opened_total", #"reporter="destination""#) == 1
            }
            node.store.apply([.policy("shop/no", Self.denyAll("no", in: "shop", .namespace))])
            try expectClosed(waiting.raw)
            try eventually("the server's line says why") { try node.log().contains(Self.policyText) }
            try eventually("the client hears of a denial, not of a failure") {
                node.sample(
                    "istio_tcp_connections_failed_total", #"reporter="source""#, #"response_flags="DENY""#) == 1
            }
            withExtendedLifetime(listener) {}
        }
    }

    @Test("a pod takes as many connections as its annotation says; the next are refused with 429 and counted")
    func connectionLimit() async throws {
        try await scene(settings: PodSettings(connectionLimit: 2)) { node, server, client, outsider in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            let tunnelled = try Held(client, to: target, accepting: listener)
            let plain = try Held(outsider, to: target, accepting: listener)
            for pod in [client, outsider] {
                try eventually("a third one is refused") { try isRefused(pod, target, listener) }
            }
            try eventually("the log names the annotation, and the client its refusal") {
                let log = try node.log()
                return log.contains("apus.dev/connection-limit") && log.contains("http status: 429")
            }
            #expect(node.sample("apus_connections_limited_total", #"limit="connections""#) >= 2)
            // More room: the annotation was changed while the pod runs.
            try node.update(server, PodSettings(connectionLimit: 3))
            try eventually("there is room for one more") { try !isRefused(client, target, listener) }
            try tunnelled.exchange()
            try plain.exchange()
        }
    }

    @Test("a pod takes as many new connections a second as its annotation says, and more as time passes")
    func connectionRate() async throws {
        try await scene(settings: PodSettings(connectionRate: 2)) { node, server, client, outsider in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            #expect(try !isRefused(client, target, listener))
            for pod in [client, outsider] {
                try eventually("the one too many is refused") { try isRefused(pod, target, listener) }
                try eventually("there is room again") { try !isRefused(pod, target, listener) }
            }
            try eventually("the log names the annotation") { try node.log().contains("apus.dev/connection-rate") }
            #expect(node.sample("apus_connections_limited_total", #"limit="rate""#) >= 2)
        }
    }

    @Test("where there is an idle limit, what nothing moves on is closed and what is used stays")
    func idle() async throws {
        try await scene(settings: .none, { $0.idleTimeout = .milliseconds(600) }) { node, server, client, outsider in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            let used = try Held(client, to: target, accepting: listener)
            let idle = [
                try Held(client, to: target, accepting: listener), try Held(outsider, to: target, accepting: listener),
            ]
            try eventually("the line says why") {
                try used.exchange()
                return try node.log().components(separatedBy: "APUS_IDLE_TIMEOUT").count >= 3
            }
            for held in idle { try expectClosed(held.client.raw) }
            try used.exchange()
        }
    }

    @Test(
        "a pod that is being ended sends peers to new tunnels, opens new ones itself, and serves what it has",
        arguments: ["server", "client"])
    func terminating(whose: String) async throws {
        try await scene { node, server, client, _ in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            let old = try Held(client, to: target, accepting: listener)
            #expect(try client.tunnels(to: server) == 1)
            try node.update(whose == "server" ? server : client, PodSettings(isTerminating: true))
            var newer: Held?
            try eventually("the next connection has a tunnel of its own") {
                newer = nil
                newer = try Held(client, to: target, accepting: listener)
                return try client.tunnels(to: server) == 2
            }
            try old.exchange()
            try newer?.exchange()
            shutdown(old.server, CInt(SHUT_RDWR))
            try expectClosed(old.client.raw)
            shutdown(old.client.raw, CInt(SHUT_RDWR))
            try eventually("the old tunnel goes with its last connection") { try client.tunnels(to: server) == 1 }
            try newer?.exchange()
        }
    }

    @Test(
        "15. drain modes, test_server_shutdown: a pod that is removed cuts its connections at once, and new ones fail")
    func serverShutdown() async throws {
        try await scene { node, server, client, outsider in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            let tunnelled = try Held(client, to: target, accepting: listener)
            let plain = try Held(outsider, to: target, accepting: listener)
            try node.remove(server)
            for held in [tunnelled, plain] {
                try expectClosed(held.client.raw)
                try expectClosed(held.server)
            }
            for pod in [client, outsider] {
                let refused = try pod.connect(to: target)
                try expectClosed(refused.raw, "from \(pod.name)")
            }
            try eventually("the lines say why") { try node.log().contains("connection closed due to connection drain") }
        }
    }

    @Test(
        "15. drain modes, test_ztunnel_shutdown: open connections run on for the limit, new ones wait for the next")
    func ztunnelShutdown() async throws {
        try await scene(settings: .none, { $0.drainLimit = .seconds(5) }) { node, server, client, outsider in
            let listener = try server.listen(port: 8080)
            let target = Endpoint(server.v4, 8080)
            let tunnelled = try Held(client, to: target, accepting: listener)
            let plain = try Held(outsider, to: target, accepting: listener)
            let ending = Task { [proxy = node.proxy] in await proxy?.stop() }
            // Accepted by nobody in the end: it stays in the keeper's queue.
            var waiting: CInt = -1
            defer { close(waiting) }
            // Not with a loop that keeps the thread: the drain begins on one of the few that tasks share.
            var isTaken = true
            for _ in 0..<1000 where isTaken {
                await Task.yield()
                close(waiting)
                waiting = try client.connect(to: target).release()
                try Talk.send(waiting, "ping")
                var entry = pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0)
                isTaken = poll(&entry, 1, 100) == 1
                if isTaken { close(try Talk.accept(listener).fd) }
            }
            #expect(!isTaken, "it still takes connections")
            // The last of those may have been taken and then cut; this one comes when nobody takes any.
            close(waiting)
            waiting = try client.connect(to: target).release()
            try Talk.send(waiting, "ping")
            try tunnelled.exchange()
            try plain.exchange()
            // Away from the control side as it is, it does not become ready again.
            #expect(node.readiness.pendingTasks.contains("workload proxy manager"))
            await ending.value
            #expect(node.readiness.pendingTasks.contains("workload proxy manager"))
            for held in [tunnelled, plain] { try expectClosed(held.client.raw) }
            try node.startProxy()
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            #expect(try Talk.receive(accepted.fd, 4) == "ping")
            #expect(accepted.peer?.address == client.v4)
        }
    }
}

/// Whether a connection is closed before it reaches the server.
private func isRefused(_ pod: TestPod, _ target: Endpoint, _ listener: borrowing FileDescriptor) throws -> Bool {
    let connection = try pod.connect(to: target)
    // It may have been refused already, and says so below.
    try? Talk.send(connection.raw, "x")
    var entries = [connection.raw, listener.raw].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    guard poll(&entries, 2, 10_000) > 0 else { throw Unmet("neither served nor refused") }
    guard entries[1].revents != 0 else { return true }
    close(try Talk.accept(listener).fd)
    return false
}
