import Addressing
import Glibc
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

@Suite("Spared connections: listed, cut, never outlived", .serialized)
struct SparedTests {
    @Test(
        "those open before are listed, captured ones and the pod's own are not", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func listed(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try means.backend()
            let open = try OpenConnections(network, family)
            #expect(try backend.sparedConnections(in: network.pod).count == 2)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try backend.apply(RedirectionPlan(), in: network.pod)
            // Captured on its way out.
            let outgoing = try Stream(family: family, in: network.pod)
            try outgoing.connect(to: Endpoint(Network.serviceAddress(family), 80))
            let accepted = try ztunnel.outbound.accept().stream
            // Captured on its way in, and taken to the app in the client's name.
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let client = try Stream(family: family, in: network.world)
            try client.connect(to: Endpoint(Network.podAddress(family), 8080))
            let plain = try ztunnel.inbound.accept().stream
            let toApp = try FakeZtunnel.dial(
                Endpoint(Network.podAddress(family), 8080), as: Network.worldAddress(family), in: network.pod)
            let served = try app.accept().stream
            // The pod with itself.
            let own = try Stream(family: family, in: network.pod)
            try own.connect(to: Endpoint(Network.podAddress(family), 8080))
            let ownPeer = try app.accept().stream
            try toApp.exchange(with: served)

            let listed = Set(try backend.sparedConnections(in: network.pod).map(\.remote.port))
            #expect(listed.contains(7000) && listed.count == 2)
            withExtendedLifetime((outgoing, accepted, client, plain, own, ownPeer)) {}
            try open.exchange()
        }
    }

    @Test("cut ones end on both sides, captured ones go on", arguments: Means.allCases, IPAddress.Family.allCases)
    func cut(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try means.backend()
            let open = try OpenConnections(network, family)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try backend.apply(RedirectionPlan(), in: network.pod)
            let captured = try Stream(family: family, in: network.pod)
            try captured.connect(to: Endpoint(Network.worldAddress(family), 7000))
            let accepted = try ztunnel.outbound.accept().stream
            try backend.cut(try backend.sparedConnections(in: network.pod), in: network.pod)
            #expect(try backend.sparedConnections(in: network.pod).isEmpty)
            #expect(throws: SystemError.self) { try open.out.exchange(with: open.outFar) }
            #expect(throws: SystemError.self) { try open.into.exchange(with: open.intoNear) }
            try captured.exchange(with: accepted)
        }
    }

    @Test("the same addresses and ports again are captured", arguments: Means.allCases, IPAddress.Family.allCases)
    func reused(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try means.backend()
            let target = Endpoint(Network.worldAddress(family), 7000)
            let source = Endpoint(Network.podAddress(family), 33_333)
            let far = try Listener(Endpoint(any(family), 7000), in: network.world)
            func connect() throws -> Stream {
                let stream = try Stream(family: family, in: network.pod)
                try Sockets.setReuseAddress(stream.fd)
                try Sockets.bind(stream.fd, to: source, dualStack: family == .v6)
                try stream.connect(to: target)
                return stream
            }
            do {
                let first = try connect()
                let peer = try far.accept().stream
                let ztunnel = try FakeZtunnel(family, in: network.pod)
                try backend.apply(RedirectionPlan(), in: network.pod)
                try first.exchange(with: peer)
                #expect(!ztunnel.outbound.hasConnection)
                // Without TIME_WAIT, so that the four can be had again at once.
                Sockets.resetOnClose(first.fd)
            }
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let second = try connect()
            try second.exchange(with: ztunnel.outbound.accept().stream)
            #expect(try backend.sparedConnections(in: network.pod).isEmpty)
        }
    }
}
