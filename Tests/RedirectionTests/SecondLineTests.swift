import Addressing
import Glibc
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

@Suite("The second line: damage to capture lets nothing past", .serialized)
struct SecondLineTests {
    /// Of capture's own table, and nothing else.
    enum Damage: String, CaseIterable, Sendable {
        case table = "delete table inet apus"
        case everyRule = "flush table inet apus"
        case outbound = "flush chain inet apus nat-output"
        case inbound = "flush chain inet apus nat-prerouting"

        var harmsOutbound: Bool { self != .inbound }
        var harmsInbound: Bool { self != .outbound }
    }

    private static let plan = RedirectionPlan(probePorts: [8080], dropsUncaptured: true)
    private static let backend = NftablesBackend()

    private static func connects(
        _ family: IPAddress.Family, in namespace: borrowing NetworkNamespace, to endpoint: Endpoint,
        from source: IPAddress? = nil
    ) throws -> Bool {
        let stream = try Stream(family: family, in: namespace)
        if let source { try Sockets.bind(stream.fd, to: Endpoint(source, 0), dualStack: family == .v6) }
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
            let far = try Listener(Endpoint(any(family), 7000), in: network.world)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let outside = Endpoint(Network.worldAddress(family), 7000)
            let inside = Endpoint(Network.podAddress(family), 8080)
            // Open before capture, in both directions.
            let spared = try Stream(family: family, in: network.pod)
            try spared.connect(to: outside)
            let sparedFar = try far.accept().stream
            let sparedIn = try Stream(family: family, in: network.world)
            try sparedIn.connect(to: inside)
            let sparedNear = try app.accept().stream

            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try Self.backend.apply(Self.plan, in: network.pod)
            let hbone = try Listener(Endpoint(any(family), ZtunnelPort.hbone), in: network.world)
            _ = try Judge.nft(damage.rawValue, in: network.pod)
            let found = try Self.backend.verify(Self.plan, .capturing, in: network.pod)
            #expect(!found.isEmpty && !found.contains(.secondLineMissing))

            #expect(try Self.connects(family, in: network.pod, to: outside) == !damage.harmsOutbound)
            #expect(!far.hasConnection)
            #expect(try Self.connects(family, in: network.world, to: inside) == !damage.harmsInbound)
            #expect(!app.hasConnection)

            // What does not hang on the rules: ztunnel's own, tunnels, probes, loopback, what was open before.
            let tunnel = try FakeZtunnel.dial(
                Endpoint(Network.worldAddress(family), ZtunnelPort.hbone), in: network.pod)
            try tunnel.exchange(with: hbone.accept().stream)
            #expect(
                try Self.connects(
                    family, in: network.world, to: Endpoint(Network.podAddress(family), ZtunnelPort.hbone)))
            #expect(
                try Self.connects(family, in: network.world, to: inside, from: RedirectionPlan.probeAddress(family)))
            _ = try app.accept()
            for address in [Network.podAddress(family), RedirectionTable.loopback(family)] {
                #expect(try Self.connects(family, in: network.pod, to: Endpoint(address, 8080)))
                _ = try app.accept()
            }
            try spared.exchange(with: sparedFar)
            try sparedIn.exchange(with: sparedNear)

            try Self.backend.apply(Self.plan, in: network.pod)
            #expect(try Self.backend.verify(Self.plan, .capturing, in: network.pod).isEmpty)
            while ztunnel.outbound.hasConnection { _ = try ztunnel.outbound.accept() }
            #expect(try Self.connects(family, in: network.pod, to: outside))
            #expect(ztunnel.outbound.hasConnection && !far.hasConnection)
            try spared.exchange(with: sparedFar)
            try sparedIn.exchange(with: sparedNear)
            try Self.backend.remove(in: network.pod)
            try spared.exchange(with: sparedFar)
            #expect(try Judge.ruleset(network.pod).isEmpty)
        }
    }

    @Test(
        "what a captured connection still sends when its translation is gone does not go out",
        arguments: IPAddress.Family.allCases, [true, false])
    func strays(family: IPAddress.Family, isGuarded: Bool) async throws {
        try await onThread {
            let network = try Network()
            var plan = Self.plan
            plan.dropsUncaptured = isGuarded
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try Self.backend.apply(plan, in: network.pod)
            let app = try Stream(family: family, in: network.pod)
            try app.connect(to: Endpoint(Network.worldAddress(family), 7000))
            try app.exchange(with: ztunnel.outbound.accept().stream)
            let wire = try network.world.run { try PacketSocket(interface: "eth0") }
            _ = try Judge.nft("delete table inet apus", in: network.pod)
            try app.send("in clear: a secret")
            var seen = false
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let deadline = ContinuousClock.now + .milliseconds(500)
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

    @Test("it goes with what it stands behind, in the same transaction, and comes back when it is harmed")
    func life() async throws {
        try await onThread {
            let network = try Network()
            func rules() throws -> String { try Judge.ruleset(network.pod) }
            try Self.backend.apply(Self.plan, in: network.pod)
            #expect(try rules().contains("table inet apus-line"))
            for harm in ["delete table inet apus-line", "flush table inet apus-line"] {
                _ = try Judge.nft(harm, in: network.pod)
                #expect(try !Self.backend.verify(Self.plan, .capturing, in: network.pod).isEmpty)
                try Self.backend.apply(Self.plan, in: network.pod)
                #expect(try Self.backend.verify(Self.plan, .capturing, in: network.pod).isEmpty)
            }
            let whole = try Judge.ruleset(network.pod, handles: true)
            try Self.backend.apply(Self.plan, in: network.pod)
            #expect(try Judge.ruleset(network.pod, handles: true) == whole)
            var without = Self.plan
            without.dropsUncaptured = false
            try Self.backend.apply(without, in: network.pod)
            #expect(try !rules().contains("apus-line"))
            try Self.backend.apply(Self.plan, in: network.pod)
            try Self.backend.leave(Self.plan, in: network.pod)
            #expect(try !rules().contains("apus-line"))
            #expect(try Self.backend.verify(Self.plan, .leaving, in: network.pod).isEmpty)
        }
    }

    @Test("guests of a named interface are held back as well", arguments: IPAddress.Family.allCases, [true, false])
    func guests(family: IPAddress.Family, capturesInbound: Bool) async throws {
        try await onThread {
            let network = try Network()
            // To the pod the world is a guest here: what comes in by eth0 is on its way out.
            let plan = RedirectionPlan(
                capturesInbound: capturesInbound, virtualInterfaces: ["eth0"], dropsUncaptured: true)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let target = Endpoint(Network.podAddress(family), 8080)
            try Self.backend.apply(plan, in: network.pod)
            #expect(try Self.connects(family, in: network.world, to: target))
            _ = try ztunnel.outbound.accept()
            _ = try Judge.nft("flush chain inet apus nat-prerouting", in: network.pod)
            #expect(try !Self.connects(family, in: network.world, to: target))
            // Nor is ztunnel's port for the pod's own connections open to it.
            #expect(
                try !Self.connects(
                    family, in: network.world, to: Endpoint(Network.podAddress(family), ZtunnelPort.outbound)))
            #expect(!app.hasConnection && !ztunnel.outbound.hasConnection)
        }
    }
}
