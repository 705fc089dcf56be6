import Addressing
import Glibc
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

@Suite("The second line of capture by eBPF", .serialized)
struct EbpfSecondLineTests {
    enum Damage: String, CaseIterable, Sendable {
        case egress = "apus_egress"
        case ingress = "apus_ingress"
    }

    private static let plan = RedirectionPlan(
        capturesDNS: true, probePorts: [8080], dropsUncaptured: true, requiresSeal: true)

    private static func harm(_ damage: Damage, in pod: borrowing NetworkNamespace) throws {
        try pod.run {
            let filter = try #require(try EbpfDriftTests.filters().first { $0.name == damage.rawValue })
            var routes = try RouteSocket()
            try routes.delete(filter)
        }
    }

    private static func connects(
        _ family: IPAddress.Family, in namespace: borrowing NetworkNamespace, to endpoint: Endpoint
    ) throws -> Bool {
        let stream = try Stream(family: family, in: namespace)
        if try Sockets.connect(stream.fd, to: endpoint, dualStack: family == .v6) { return true }
        var entry = pollfd(fd: stream.fd, events: Int16(POLLOUT), revents: 0)
        // The kernel sends its first SYN at once: what has not come about by then was dropped.
        return poll(&entry, 1, 300) > 0 && Sockets.pendingError(stream.fd) == 0
    }

    @Test(
        "no new connection in clear in either direction, and all else as it was; whole again after repair",
        arguments: Damage.allCases, IPAddress.Family.allCases)
    func holds(damage: Damage, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try Means.ebpf.backend()
            let far = try Listener(Endpoint(any(family), 7000), in: network.world)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let outside = Endpoint(Network.worldAddress(family), 7000)
            let inside = Endpoint(Network.podAddress(family), 8080)
            let spared = try Stream(family: family, in: network.pod)
            try spared.connect(to: outside)
            let sparedFar = try far.accept().stream
            let sparedIn = try Stream(family: family, in: network.world)
            try sparedIn.connect(to: inside)
            let sparedNear = try app.accept().stream
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try backend.apply(Self.plan, in: network.pod)
            let hbone = try Listener(Endpoint(any(family), ZtunnelPort.hbone), in: network.world)
            let server = try DatagramSocket(family, at: Network.worldAddress(family), port: 53, in: network.world)
            try Self.harm(damage, in: network.pod)

            #expect(try Self.connects(family, in: network.pod, to: outside) == (damage != .egress))
            #expect(!far.hasConnection)
            #expect(try Self.connects(family, in: network.world, to: inside) == (damage != .ingress))
            #expect(!app.hasConnection)
            let question = try DatagramSocket(family, in: network.pod)
            try question.send(dnsQuestion, to: Endpoint(Network.worldAddress(family), 53))
            #expect(!server.hasDatagram)

            let tunnel = try FakeZtunnel.dial(
                Endpoint(Network.worldAddress(family), ZtunnelPort.hbone), in: network.pod)
            try tunnel.exchange(with: hbone.accept().stream)
            let upstream = try DatagramSocket(family, in: network.pod, ztunnel: true)
            try upstream.send(dnsQuestion, to: Endpoint(Network.worldAddress(family), 53))
            _ = try server.receive()
            let peer = try Stream(family: family, in: network.world)
            try peer.connect(to: Endpoint(Network.podAddress(family), ZtunnelPort.hbone))
            try peer.exchange(with: ztunnel.hbone.accept().stream)
            for address in [Network.podAddress(family), RedirectionTable.loopback(family)] {
                #expect(try Self.connects(family, in: network.pod, to: Endpoint(address, 8080)))
                _ = try app.accept()
            }
            try spared.exchange(with: sparedFar)
            try sparedIn.exchange(with: sparedNear)

            try backend.apply(Self.plan, in: network.pod)
            #expect(try backend.verify(Self.plan, .capturing, in: network.pod).isEmpty)
            while ztunnel.outbound.hasConnection { _ = try ztunnel.outbound.accept() }
            #expect(try Self.connects(family, in: network.pod, to: outside))
            #expect(ztunnel.outbound.hasConnection && !far.hasConnection)
            try spared.exchange(with: sparedFar)
            try sparedIn.exchange(with: sparedNear)
        }
    }

    @Test(
        "what a captured connection still sends without the program that leads it does not go out",
        arguments: IPAddress.Family.allCases, [true, false])
    func strays(family: IPAddress.Family, isGuarded: Bool) async throws {
        try await onThread {
            let network = try Network()
            var plan = Self.plan
            plan.dropsUncaptured = isGuarded
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try Means.ebpf.backend().apply(plan, in: network.pod)
            let app = try Stream(family: family, in: network.pod)
            try app.connect(to: Endpoint(Network.worldAddress(family), 7000))
            try app.exchange(with: ztunnel.outbound.accept().stream)
            let wire = try network.world.run { try PacketSocket(interface: "eth0") }
            try Self.harm(.egress, in: network.pod)
            try app.send("in clear: a secret")
            var seen = false
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let deadline = ContinuousClock.now + .milliseconds(400)
            while ContinuousClock.now < deadline, !seen {
                guard let frame = try wire.next(into: &buffer) else {
                    poll(nil, 0, 5)
                    continue
                }
                seen = String(decoding: frame, as: UTF8.self).contains("in clear: a secret")
            }
            // Without the second line it does, which shows that the wire is looked at.
            #expect(seen == !isGuarded)
        }
    }
}
