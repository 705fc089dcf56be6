import Addressing
import Glibc
import LinuxNetwork
import ObjectSource
import TestSupport
import Testing

@testable import NodeAgent

@Suite("Connections that were open at enrolment", .serialized)
struct SparedConnectionTests {
    private func running(
        configure: (inout NodeAgentConfiguration) -> Void = { _ in }
    ) async throws -> (AgentFixture, FakePod, PodConnection) {
        let fixture = try await AgentFixture {
            $0.sparedPoll = .milliseconds(20)
            configure(&$0)
        }
        fixture.source.setNamespace("shop", ambient: false)
        fixture.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        try #require(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        let connection = try PodConnection(pod)
        return (fixture, pod, connection)
    }

    @Test("they go on, and the status and a metric tell of them until they close")
    func told() async throws {
        let (fixture, _, connection) = try await running()
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("told") { fixture.annotator.spared(of: "web")?.hasPrefix("1: 10.98.0.2:") == true }
        #expect(fixture.annotator["web"] == "enabled")
        #expect(connection.works())
        try await eventually("counted") {
            fixture.registry.exposition().contains("apus_agent_spared_connections 1")
        }
        connection.shutDown()
        try await eventually("no longer told") { fixture.annotator.spared(of: "web") == nil }
        try await eventually("counted down") {
            fixture.registry.exposition().contains("apus_agent_spared_connections 0")
        }
        try await fixture.stop()
    }

    @Test("where only mutual TLS is accepted they are cut at once")
    func strict() async throws {
        let (fixture, _, connection) = try await running()
        fixture.source.change {
            $0.insert(
                .peerAuthentication(
                    PeerAuthentication(metadata: ObjectMeta(name: "strict", namespace: "shop"), mode: .strict)))
        }
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("counted") {
            fixture.registry.exposition().contains("apus_agent_spared_connections_cut_total{reason=\"strict\"} 1")
        }
        #expect(!connection.works())
        #expect(fixture.annotator.spared(of: "web") == nil)
        try await fixture.stop()
    }

    @Test("one that was half open at enrolment is found as well")
    func halfOpen() async throws {
        let (fixture, pod, connection) = try await running { $0.sparedPoll = .seconds(2) }
        // The kernel keeps it half open until there is something to read.
        let (listener, client) = try Self.deferred(in: pod.namespace.value, from: connection.world)
        defer {
            close(listener)
            close(client)
        }
        fixture.source.change {
            $0.insert(
                .peerAuthentication(
                    PeerAuthentication(metadata: ObjectMeta(name: "strict", namespace: "shop"), mode: .strict)))
        }
        fixture.source.setNamespace("shop", ambient: true)
        func cut(_ count: Int) -> Bool {
            let metric = "apus_agent_spared_connections_cut_total{reason=\"strict\"}"
            return fixture.registry.exposition().contains("\(metric) \(count)\n")
        }
        try await eventually("the open one is cut") { cut(1) }
        #expect(send(client, "x", 1, CInt(MSG_NOSIGNAL)) == 1)
        try await eventually("the other is cut when it is open") { cut(2) }
        try await fixture.stop()
    }

    private static func deferred(
        in pod: borrowing NetworkNamespace, from world: borrowing NetworkNamespace
    ) throws -> (listener: CInt, client: CInt) {
        let listener = try pod.run { () throws -> FileDescriptor in
            let listener = try Sockets.tcp(dualStack: false)
            var seconds: CInt = 30
            try check("TCP_DEFER_ACCEPT") {
                setsockopt(
                    listener.raw, CInt(IPPROTO_TCP), TCP_DEFER_ACCEPT, &seconds, socklen_t(MemoryLayout<CInt>.size))
            }
            try Sockets.bind(listener.raw, to: Endpoint(IPAddress(10, 98, 0, 2), 8080), dualStack: false)
            try Sockets.listen(listener.raw, backlog: 4)
            return listener
        }
        let client = try world.run { () throws -> FileDescriptor in
            let client = try Sockets.tcp(dualStack: false)
            _ = try Sockets.connect(client.raw, to: Endpoint(IPAddress(10, 98, 0, 2), 8080), dualStack: false)
            return client
        }
        var entry = pollfd(fd: client.raw, events: Int16(POLLOUT), revents: 0)
        guard poll(&entry, 1, 5000) == 1, Sockets.pendingError(client.raw) == 0 else {
            throw SystemError("connect", code: ETIMEDOUT)
        }
        return (listener.release(), client.release())
    }

    @Test("at the deadline they are cut")
    func deadline() async throws {
        let (fixture, _, connection) = try await running { $0.sparedDeadline = .milliseconds(200) }
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("told") { fixture.annotator.spared(of: "web") != nil }
        try await eventually("cut") {
            fixture.registry.exposition().contains("apus_agent_spared_connections_cut_total{reason=\"deadline\"} 1")
        }
        #expect(!connection.works())
        try await eventually("no longer told") { fixture.annotator.spared(of: "web") == nil }
        try await fixture.stop()
    }

    @Test("un-enrolment and enrolment again leave them alone")
    func roundTrip() async throws {
        let (fixture, _, connection) = try await running()
        for ambient in [true, false, true] {
            fixture.source.setNamespace("shop", ambient: ambient)
            try await eventually("there") {
                let phase = await fixture.pod("c1")?.phase
                return phase == (ambient ? .capturing : .attached)
            }
            #expect(connection.works())
        }
        try await fixture.stop()
    }
}
