import Addressing
import Glibc
import LinuxNetwork
import Testing

@testable import Redirection

/// What is never captured, and a pod that speaks one family.
@Suite("Packet walk I: what goes its own way", .serialized)
struct UncapturedTests {
    private static func enrolled(_ tested: Means) throws -> Network {
        let network = try Network()
        try tested.backend().apply(RedirectionPlan(capturesDNS: true), in: network.pod)
        return network
    }

    @Test("ping", arguments: Means.allCases, IPAddress.Family.allCases)
    func ping(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested)
            let v6 = family == .v6
            let kind = CInt(SOCK_RAW.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
            let socket = FileDescriptor(
                owning: try network.pod.run {
                    Glibc.socket(v6 ? AF_INET6 : AF_INET, kind, CInt(v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
                })
            // An echo request; the checksum of IPv6's is the kernel's to fill in.
            let request: [UInt8] = v6 ? [128, 0, 0, 0, 0x12, 0x34, 0, 1] : [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1]
            try Sockets.send(
                socket.raw, request, to: Endpoint(Network.worldAddress(family), 0), dualStack: v6)
            var buffer = [UInt8](repeating: 0, count: 256)
            var isAnswered = false
            // Raw sockets see neighbour discovery too.
            for _ in 0..<50 where !isAnswered {
                var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
                guard poll(&entry, 1, 3000) > 0 else { break }
                let count = recv(socket.raw, &buffer, buffer.count, 0)
                let message = buffer.prefix(max(count, 0)).dropFirst(v6 ? 0 : 20)
                isAnswered = Array(message.suffix(4)) == [0x12, 0x34, 0, 1] && message.first == (v6 ? 129 : 0)
            }
            #expect(isAnswered)
        }
    }

    @Test("another transport", arguments: Means.allCases, IPAddress.Family.allCases)
    func otherTransport(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested)
            let v6 = family == .v6
            // SCTP's number: what counts is that the packet is neither TCP nor a question of the DNS.
            let transport: CInt = 132
            let kind = CInt(SOCK_RAW.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
            let domain = v6 ? AF_INET6 : AF_INET
            let sender = FileDescriptor(owning: try network.pod.run { socket(domain, kind, transport) })
            let receiver = FileDescriptor(owning: try network.world.run { socket(domain, kind, transport) })
            let bytes: [UInt8] = [0, 80, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8]
            try Sockets.send(
                sender.raw, bytes, to: Endpoint(Network.worldAddress(family), 0), dualStack: v6)
            var entry = pollfd(fd: receiver.raw, events: Int16(POLLIN), revents: 0)
            #expect(poll(&entry, 1, 3000) == 1)
            var buffer = [UInt8](repeating: 0, count: 256)
            let count = recv(receiver.raw, &buffer, buffer.count, 0)
            #expect(Array(buffer.prefix(max(count, 0)).suffix(bytes.count)) == bytes)
        }
    }

    @Test(
        "a refusal by the app reaches who asked, without a listener behind it", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func refusal(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested)
            #expect(throws: SystemError.self) {
                try FakeZtunnel.dial(
                    Endpoint(Network.podAddress(family), 8080), as: Network.worldAddress(family), in: network.pod)
            }
            // Nobody listens on 15001: closed, not past the mesh.
            let world = try Listener(Endpoint(any(family), 80), in: network.world)
            let app = try Stream(family: family, in: network.pod)
            let error = #expect(throws: SystemError.self) {
                try app.connect(to: Endpoint(Network.worldAddress(family), 80))
            }
            // Without translation there is nobody whose refusal it could be: the connection waits in vain.
            #expect(error?.code == (tested.usesPrograms ? ETIMEDOUT : ECONNREFUSED))
            #expect(!world.hasConnection)
        }
    }

    @Test("walks B, C and D in a pod without IPv6", arguments: Means.allCases)
    func withoutIPv6(tested: Means) async throws {
        try await onThread {
            let network = try Network(ipv6: false)
            let plan = RedirectionPlan(
                families: try RedirectionPlan.families(in: network.pod), capturesDNS: true, probePorts: [8080])
            try tested.backend().apply(plan, in: network.pod)
            #expect(try tested.backend().verify(plan, .capturing, in: network.pod).isEmpty)
            let ztunnel = try FakeZtunnel(.v4, in: network.pod)
            let app = try Listener(Endpoint(.anyV4, 8080), in: network.pod)
            let target = Endpoint(Network.podAddress(.v4), 8080)

            let peer = try Stream(family: .v4, in: network.world)
            try peer.connect(to: Endpoint(Network.podAddress(.v4), ZtunnelPort.hbone))
            try peer.exchange(with: ztunnel.hbone.accept().stream)

            let client = try Stream(family: .v4, in: network.world)
            try client.connect(to: target)
            try client.exchange(with: ztunnel.inbound.accept().stream)
            let toApp = try FakeZtunnel.dial(target, as: Network.worldAddress(.v4), in: network.pod)
            try toApp.exchange(with: app.accept().stream)

            let probe = try Stream(family: .v4, in: network.world)
            try Sockets.bind(probe.fd, to: Endpoint(RedirectionPlan.probeAddress(.v4), 0), dualStack: false)
            try probe.connect(to: target)
            try probe.exchange(with: app.accept().stream)

            let proxy = try DatagramSocket.proxy(.v4, in: network.pod)
            let asking = try DatagramSocket(.v4, in: network.pod)
            try asking.send(dnsQuestion, to: Endpoint(Network.serviceAddress(.v4), 53))
            #expect(try proxy.receive().bytes == dnsQuestion)
            try tested.backend().remove(in: network.pod)
        }
    }
}
