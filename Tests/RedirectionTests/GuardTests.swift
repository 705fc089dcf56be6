import Addressing
import Glibc
import LinuxNetwork
import Testing

@testable import Redirection

@Suite("The guard of a pod whose capture is not proven", .serialized)
struct GuardTests {
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
        "no TCP comes in or goes out, loopback works, and afterwards all is as before",
        arguments: IPAddress.Family.allCases)
    func blocks(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = NftablesBackend()
            let far = try Listener(Endpoint(any(family), 7000), in: network.world)
            let near = try Listener(Endpoint(any(family), 7000), in: network.pod)
            let open = try Stream(family: family, in: network.pod)
            let outside = Endpoint(Network.worldAddress(family), 7000)
            let inside = Endpoint(Network.podAddress(family), 7000)
            try open.connect(to: outside)
            let peer = try far.accept().stream
            try open.exchange(with: peer)

            try backend.block(in: network.pod)
            try backend.block(in: network.pod)
            #expect(try !Self.connects(family, in: network.pod, to: outside))
            #expect(try !Self.connects(family, in: network.world, to: inside))
            #expect(!near.hasConnection && !far.hasConnection)
            // What is open waits; it is not told that it is over.
            try open.send("later")
            // The pod's own address, and loopback.
            for address in [Network.podAddress(family), RedirectionTable.loopback(family)] {
                #expect(try Self.connects(family, in: network.pod, to: Endpoint(address, 7000)))
                _ = try near.accept()
            }

            try backend.unblock(in: network.pod)
            try backend.unblock(in: network.pod)
            #expect(try peer.receive(5) == "later")
            #expect(try Self.connects(family, in: network.pod, to: outside))
            #expect(try Self.connects(family, in: network.world, to: inside))
            #expect(try Judge.ruleset(network.pod).isEmpty)
        }
    }

    @Test("it holds whatever happens to capture's own table, and stays in front of it")
    func isIndependent() async throws {
        try await onThread {
            let network = try Network()
            let backend = NftablesBackend()
            let ztunnel = try FakeZtunnel(.v4, in: network.pod)
            try backend.apply(RedirectionPlan(), in: network.pod)
            try backend.block(in: network.pod)
            let service = Endpoint(Network.serviceAddress(.v4), 80)
            #expect(try !Self.connects(.v4, in: network.pod, to: service))
            try backend.remove(in: network.pod)
            #expect(try !Self.connects(.v4, in: network.pod, to: Endpoint(Network.worldAddress(.v4), 7000)))
            try backend.apply(RedirectionPlan(), in: network.pod)
            #expect(try backend.verify(RedirectionPlan(), .capturing, in: network.pod).isEmpty)
            #expect(!ztunnel.outbound.hasConnection)
            try backend.unblock(in: network.pod)
            #expect(try Self.connects(.v4, in: network.pod, to: service))
            #expect(ztunnel.outbound.hasConnection)
        }
    }

    @Test("one that was changed by hand is made whole")
    func mended() async throws {
        try await onThread {
            let network = try Network()
            let backend = NftablesBackend()
            try backend.block(in: network.pod)
            _ = try Judge.nft("flush table inet apus-guard", in: network.pod)
            let far = try Listener(Endpoint(any(.v4), 7000), in: network.world)
            let outside = Endpoint(Network.worldAddress(.v4), 7000)
            #expect(try Self.connects(.v4, in: network.pod, to: outside))
            _ = try far.accept()
            try backend.block(in: network.pod)
            #expect(try !Self.connects(.v4, in: network.pod, to: outside))
        }
    }

    @Test("ztunnel's listeners are told from others by their mark")
    func listeners() async throws {
        try await onThread {
            let network = try Network()
            let backend = NftablesBackend()
            let plan = RedirectionPlan()
            let all = [ZtunnelPort.outbound, ZtunnelPort.inboundPlaintext, ZtunnelPort.hbone]
            #expect(try backend.missingListeners(plan, in: network.pod) == all.map { .listenerMissing($0) })
            let impostor = try Listener(Endpoint(any(.v4), ZtunnelPort.outbound), in: network.pod)
            #expect(
                try backend.missingListeners(plan, in: network.pod).contains(.listenerMissing(ZtunnelPort.outbound)))
            withExtendedLifetime(impostor) {}
            let other = try Network()
            let ztunnel = try FakeZtunnel(.v6, in: other.pod)
            #expect(try backend.missingListeners(plan, in: other.pod).isEmpty)
            #expect(
                try backend.missingListeners(RedirectionPlan(capturesDNS: true), in: other.pod)
                    == [.listenerMissing(ZtunnelPort.dns)])
            withExtendedLifetime(ztunnel) {}
        }
    }
}
