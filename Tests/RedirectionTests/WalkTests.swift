import Addressing
import Glibc
import LinuxNetwork
import Testing

@testable import Redirection

/// The packet walks of the ambient model, each with real packets between two namespaces.
@Suite("Packet walks", .serialized)
struct WalkTests {
    private static func enrolled(
        _ means: Means, _ plan: RedirectionPlan = RedirectionPlan()
    ) throws -> Network {
        let network = try Network()
        try means.backend().apply(plan, in: network.pod)
        return network
    }

    @Test(
        "A: the app's connection reaches 15001 and says where it wanted to go", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func outbound(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(means)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let target = Endpoint(Network.serviceAddress(family), 80)
            let app = try Stream(family: family, in: network.pod)
            try app.connect(to: target)
            let (accepted, peer) = try ztunnel.outbound.accept()
            #expect(accepted.wanted == target)
            #expect(peer?.address == Network.podAddress(family))
            try app.exchange(with: accepted)
            #expect(try means.backend().capturedConnections(in: network.pod) == 1)

            // What ztunnel sends itself is not captured, and comes from the pod's address.
            let remote = try Listener(Endpoint(any(family), ZtunnelPort.hbone), in: network.world)
            let tunnel = try FakeZtunnel.dial(
                Endpoint(Network.worldAddress(family), ZtunnelPort.hbone), in: network.pod)
            let (there, from) = try remote.accept()
            #expect(from?.address == Network.podAddress(family))
            try tunnel.exchange(with: there)
            // A tunnel to another ztunnel is no captured connection.
            #expect(try means.backend().capturedConnections(in: network.pod) == 1)
        }
    }

    @Test(
        "B: HBONE reaches 15008, and the app sees the client's address", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func hbone(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(means)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let peer = try Stream(family: family, in: network.world)
            try peer.connect(to: Endpoint(Network.podAddress(family), ZtunnelPort.hbone))
            let (tunnel, _) = try ztunnel.hbone.accept()
            try peer.exchange(with: tunnel)

            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let client = Network.worldAddress(family)
            let toApp = try FakeZtunnel.dial(
                Endpoint(Network.podAddress(family), 8080), as: client, in: network.pod)
            let (served, from) = try app.accept()
            #expect(from?.address == client)
            try toApp.exchange(with: served)
            #expect(!ztunnel.inbound.hasConnection)
            // The connection to the app counts, on ztunnel's side alone.
            #expect(try means.backend().capturedConnections(in: network.pod) == 1)
        }
    }

    @Test(
        "C: plain inbound reaches 15006 with its destination, then the app", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func plaintext(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(means)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let target = Endpoint(Network.podAddress(family), 8080)
            let client = try Stream(family: family, in: network.world)
            try client.connect(to: target)
            let (accepted, peer) = try ztunnel.inbound.accept()
            #expect(accepted.wanted == target)
            let source = try #require(peer)
            #expect(source.address == Network.worldAddress(family))
            #expect(!app.hasConnection)
            try client.exchange(with: accepted)

            let toApp = try FakeZtunnel.dial(target, as: source.address, in: network.pod)
            let (served, from) = try app.accept()
            #expect(from?.address == source.address)
            try toApp.exchange(with: served)
        }
    }

    @Test(
        "without inbound capture the app is reached directly, HBONE as before", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func bypass(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(means, RedirectionPlan(capturesInbound: false))
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let client = try Stream(family: family, in: network.world)
            try client.connect(to: Endpoint(Network.podAddress(family), 8080))
            try client.exchange(with: app.accept().stream)
            let peer = try Stream(family: family, in: network.world)
            try peer.connect(to: Endpoint(Network.podAddress(family), ZtunnelPort.hbone))
            try peer.exchange(with: ztunnel.hbone.accept().stream)
            // The way back of ztunnel's connections to the app hangs on the marks, not on the redirection.
            let toApp = try FakeZtunnel.dial(
                Endpoint(Network.podAddress(family), 8080), as: Network.worldAddress(family), in: network.pod)
            try toApp.exchange(with: app.accept().stream)
        }
    }

    @Test(
        "D: a probe from the address of probes reaches the app directly", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func probe(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(means, RedirectionPlan(probePorts: [8080]))
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let probe = try Stream(family: family, in: network.world)
            try Sockets.bind(
                probe.fd, to: Endpoint(RedirectionPlan.probeAddress(family), 0), dualStack: family == .v6)
            try probe.connect(to: Endpoint(Network.podAddress(family), 8080))
            let (served, from) = try app.accept()
            #expect(from?.address == RedirectionPlan.probeAddress(family))
            try probe.exchange(with: served)
            #expect(!ztunnel.inbound.hasConnection)
        }
    }

    @Test(
        "D: the address of probes exempts no other port", arguments: Means.allCases, IPAddress.Family.allCases)
    func probeOfAnotherPort(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(means, RedirectionPlan(probePorts: [9090, 8081]))
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let probe = try Stream(family: family, in: network.world)
            try Sockets.bind(
                probe.fd, to: Endpoint(RedirectionPlan.probeAddress(family), 0), dualStack: family == .v6)
            try probe.connect(to: Endpoint(Network.podAddress(family), 8080))
            try probe.exchange(with: ztunnel.inbound.accept().stream)
            #expect(!app.hasConnection)
        }
    }

    @Test(
        "F: the pod's own addresses and loopback are not captured", arguments: Means.allCases, IPAddress.Family.allCases
    )
    func selfTraffic(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(means)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let loopback: IPAddress = family == .v4 ? .loopbackV4 : .loopbackV6
            let other = family == .v4 ? [IPAddress(127, 9, 9, 9)] : []
            for address in [Network.podAddress(family), loopback] + other {
                let client = try Stream(family: family, in: network.pod)
                try client.connect(to: Endpoint(address, 8080))
                let (served, from) = try app.accept()
                #expect(from?.address == (address == other.first ? loopback : address))
                try client.exchange(with: served)
            }
            #expect(!ztunnel.outbound.hasConnection)
            #expect(!ztunnel.inbound.hasConnection)
            #expect(try means.backend().capturedConnections(in: network.pod) == 0)
        }
    }

    @Test("I: UDP goes its own way", arguments: Means.allCases, IPAddress.Family.allCases)
    func datagrams(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(means)
            let domain = family == .v4 ? AF_INET : AF_INET6
            let kind = CInt(SOCK_DGRAM.rawValue)
            let receiver = FileDescriptor(owning: try network.world.run { socket(domain, kind, 0) })
            let sender = FileDescriptor(owning: try network.pod.run { socket(domain, kind, 0) })
            let v6 = family == .v6
            try Sockets.bind(receiver.raw, to: Endpoint(any(family), 9999), dualStack: v6)
            #expect(
                try Sockets.connect(
                    sender.raw, to: Endpoint(Network.worldAddress(family), 9999), dualStack: v6))
            #expect(Glibc.send(sender.raw, [1, 2, 3], 3, 0) == 3)
            var entry = pollfd(fd: receiver.raw, events: Int16(POLLIN), revents: 0)
            #expect(poll(&entry, 1, 3000) == 1)
            var buffer = [UInt8](repeating: 0, count: 8)
            #expect(recv(receiver.raw, &buffer, buffer.count, 0) == 3)
        }
    }

    @Test("with IPv6 switched off in the pod its part is left out")
    func ipv6Off() async throws {
        try await onThread {
            let network = try Network(ipv6: false)
            let families = try RedirectionPlan.families(in: network.pod)
            #expect(families == [.v4])
            let plan = RedirectionPlan(families: families)
            try NftablesBackend().apply(plan, in: network.pod)
            #expect(try NftablesBackend().verify(plan, .capturing, in: network.pod).isEmpty)
            let listing = try Judge.ruleset(network.pod)
            #expect(!listing.contains("ip6"))
            let ztunnel = try FakeZtunnel(.v4, in: network.pod)
            let app = try Stream(family: .v4, in: network.pod)
            try app.connect(to: Endpoint(Network.serviceAddress(.v4), 80))
            try app.exchange(with: ztunnel.outbound.accept().stream)
        }
    }
}
