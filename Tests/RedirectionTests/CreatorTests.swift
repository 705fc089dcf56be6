import Addressing
import Foundation
import LinuxNetwork
import Testing

@testable import Redirection

/// A mark can be set by others than ztunnel; who has made a socket cannot be made up.
@Suite("The mark is not a key", .serialized)
struct CreatorTests {
    /// A control group with one below it, gone with the test.
    private final class Group: Sendable {
        let path: String
        let below: String
        private let root: String

        init() throws {
            root = try #require(ControlGroups.mount())
            path = "\(root)/apus-creator-\(UUID().uuidString)"
            below = "\(path)/below"
            try FileManager.default.createDirectory(atPath: below, withIntermediateDirectories: true)
        }

        deinit {
            rmdir(below)
            rmdir(path)
        }

        /// What `body` makes is made by the group's processes.
        func own<Value>(_ group: String, _ body: () throws -> Value) throws -> Value {
            let home = try String(contentsOfFile: "/proc/self/cgroup", encoding: .utf8).split(separator: "\n")
                .first { $0.hasPrefix("0::") }?.dropFirst(3)
            try enter(group)
            let result = Result { try body() }
            try enter(root + (home ?? ""))
            return try result.get()
        }

        private func enter(_ group: String) throws {
            let file = FileDescriptor(owning: open("\(group)/cgroup.procs", O_WRONLY | O_CLOEXEC))
            let text = Array("\(getpid())\n".utf8)
            guard write(file.raw, text, text.count) == text.count else { throw SystemError("enter \(group)") }
        }
    }

    private static func enrolled(_ group: Group, dns: Bool = false) throws -> Network {
        let network = try Network()
        let plan = RedirectionPlan(capturesDNS: dns, creators: [try SocketCreator(directory: group.path)])
        try NftablesBackend().apply(plan, in: network.pod)
        #expect(try NftablesBackend().verify(plan, .capturing, in: network.pod).isEmpty)
        #expect(try !NftablesBackend().verify(RedirectionPlan(capturesDNS: dns), .capturing, in: network.pod).isEmpty)
        return network
    }

    @Test("only what the creator's processes made goes past capture", arguments: IPAddress.Family.allCases)
    func outbound(family: IPAddress.Family) async throws {
        try await onThread {
            let group = try Group()
            let network = try Self.enrolled(group)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let world = try Listener(Endpoint(any(family), 80), in: network.world)
            let target = Endpoint(Network.worldAddress(family), 80)
            for own in [group.path, group.below] {
                let dialled = try group.own(own) { try FakeZtunnel.dial(target, in: network.pod) }
                try dialled.exchange(with: world.accept().stream)
            }
            // From the root group, above the creator's.
            let forged = try FakeZtunnel.dial(target, in: network.pod)
            let captured = try ztunnel.outbound.accept().stream
            try forged.exchange(with: captured)
            #expect(!world.hasConnection)
            // A mark with more bits set is the same mark.
            let other = try Group()
            let stream = try other.own(other.path) { try Stream(family: family, in: network.pod) }
            try Sockets.setMark(stream.fd, 0xf000 | Mark.ztunnel)
            try stream.connect(to: target)
            try stream.exchange(with: ztunnel.outbound.accept().stream)
            #expect(!world.hasConnection)
        }
    }

    @Test("a process with NET_RAW alone sets the mark, and is captured", arguments: IPAddress.Family.allCases)
    func process(family: IPAddress.Family) async throws {
        let group = try Group()
        let (network, ztunnel, world) = try await onThread { () -> (Network, Held<FakeZtunnel>, Held<Listener>) in
            let network = try Self.enrolled(group)
            return (
                network, Held(try FakeZtunnel(family, in: network.pod)),
                Held(try Listener(Endpoint(any(family), 80), in: network.world))
            )
        }
        func connect() throws -> ApusProgram {
            let address = Network.worldAddress(family).description
            let code = """
                import socket
                s = socket.socket(socket.AF_INET\(family == .v6 ? "6" : ""))
                s.settimeout(3)
                s.setsockopt(socket.SOL_SOCKET, 36, 0x539)
                s.connect(("\(address)", 80))
                """
            let namespace = "--net=/proc/\(getpid())/fd/\(network.pod.raw)"
            return try ApusProgram(
                program: "/usr/bin/env",
                ["nsenter", namespace, "setpriv", "--bounding-set=-all,+net_raw", "python3", "-c", code])
        }
        let forged = try connect()
        #expect(forged.status == 0, "\(forged.errors)")
        #expect(ztunnel.value.outbound.hasConnection)
        #expect(!world.value.hasConnection)
        // By the mark alone, as Istio has it, it gets past.
        try await onThread { try NftablesBackend().apply(RedirectionPlan(), in: network.pod) }
        #expect(try connect().status == 0)
        #expect(world.value.hasConnection)
    }

    /// Sockets that are touched by one thread after the other.
    private final class Held<Value>: @unchecked Sendable {
        let value: Value
        init(_ value: Value) { self.value = value }
    }

    @Test("ztunnel's questions to name servers too", arguments: IPAddress.Family.allCases)
    func dns(family: IPAddress.Family) async throws {
        try await onThread {
            let group = try Group()
            let network = try Self.enrolled(group, dns: true)
            let proxy = try DatagramSocket.proxy(family, in: network.pod)
            let server = try DatagramSocket(family, at: Network.worldAddress(family), port: 53, in: network.world)
            let target = Endpoint(Network.worldAddress(family), 53)
            let upstream = try group.own(group.path) { try DatagramSocket(family, in: network.pod, ztunnel: true) }
            try upstream.send(dnsQuestion, to: target)
            try server.send([1], to: server.receive().source)
            #expect(try upstream.receive().bytes == [1])
            let forged = try DatagramSocket(family, in: network.pod, ztunnel: true)
            try forged.send(dnsQuestion, to: target)
            #expect(try proxy.receive().bytes == dnsQuestion)
            #expect(!server.hasDatagram)
        }
    }

    @Test("the mark of replies, which is not tracked, leads nowhere but back", arguments: IPAddress.Family.allCases)
    func replyMark(family: IPAddress.Family) async throws {
        try await onThread {
            let group = try Group()
            let network = try Self.enrolled(group)
            let world = try Listener(Endpoint(any(family), 80), in: network.world)
            let stream = try Stream(family: family, in: network.pod)
            try Sockets.setMark(stream.fd, Mark.inbound)
            #expect(throws: SystemError.self) { try stream.connect(to: Endpoint(Network.worldAddress(family), 80)) }
            #expect(!world.hasConnection)
        }
    }

    @Test("walks A, B and C hold as before", arguments: IPAddress.Family.allCases)
    func walks(family: IPAddress.Family) async throws {
        try await onThread {
            let group = try Group()
            let network = try Self.enrolled(group)
            let ztunnel = try group.own(group.path) { try FakeZtunnel(family, in: network.pod) }
            let app = try Stream(family: family, in: network.pod)
            try app.connect(to: Endpoint(Network.serviceAddress(family), 80))
            try app.exchange(with: ztunnel.outbound.accept().stream)

            let server = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let target = Endpoint(Network.podAddress(family), 8080)
            let client = try Stream(family: family, in: network.world)
            try client.connect(to: target)
            try client.exchange(with: ztunnel.inbound.accept().stream)
            let toApp = try group.own(group.path) {
                try FakeZtunnel.dial(target, as: Network.worldAddress(family), in: network.pod)
            }
            try toApp.exchange(with: server.accept().stream)
        }
    }

    @Test("the rule that lets them past is proven like the others")
    func drift() async throws {
        try await onThread {
            let group = try Group()
            let network = try Self.enrolled(group)
            let plan = RedirectionPlan(creators: [try SocketCreator(directory: group.path)])
            _ = try Judge.nft("flush chain inet apus nat-output", in: network.pod)
            let found = try NftablesBackend().verify(plan, .capturing, in: network.pod)
            #expect(found.contains(.ruleMissing(chain: "nat-output", rule: "apus 2: what ztunnel sends")))
        }
    }

    @Test("what is no control group of its own is refused")
    func refused() throws {
        let root = try #require(ControlGroups.mount())
        for directory in ["/no/such", "/tmp", root, "\(root)/.."] {
            #expect(throws: RedirectionError.self) { try SocketCreator(directory: directory) }
        }
        let group = try Group()
        #expect(try SocketCreator(directory: group.path).level == 1)
        #expect(try SocketCreator(directory: group.below + "/.").level == 2)
    }
}
