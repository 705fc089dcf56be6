import Addressing
import Glibc
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

/// A client may use a port again as soon as its connection is closed, while ztunnel, which closed first, still keeps
/// the finished connection (TIME_WAIT, RFC 9293 section 3.6.1).
@Suite("Ports of finished connections", .serialized)
struct ReusedPortTests {
    @Test(
        "out of the pod: the next connection from the same port is captured", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func outbound(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            try means.backend().apply(RedirectionPlan(), in: network.pod)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            for _ in 0..<3 {
                let app = try Self.client(Network.podAddress(family), in: network.pod)
                try app.connect(to: Endpoint(Network.serviceAddress(family), 80))
                try Self.finish(app, ztunnel.outbound)
            }
        }
    }

    @Test(
        "into the pod: the next connection from the same port is captured", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func inbound(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            try means.backend().apply(RedirectionPlan(), in: network.pod)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            // Were it not captured, it would be served in the clear.
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            for _ in 0..<3 {
                let client = try Self.client(Network.worldAddress(family), in: network.world)
                try client.connect(to: Endpoint(Network.podAddress(family), 8080))
                try Self.finish(client, ztunnel.inbound)
            }
            #expect(!app.hasConnection)
        }
    }

    /// Conntrack remembers a connection whose end it did not see, because nobody in the namespace had use for it any more,
    /// for days.
    @Test(
        "out of the pod: a connection of an earlier leaving, whose end nobody saw, does not keep its ports from capture",
        arguments: Means.allCases, IPAddress.Family.allCases)
    func outboundAfterLeaving(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try means.backend()
            let target = Endpoint(Network.worldAddress(family), 7000)
            let far = try Listener(target, in: network.world)
            try backend.apply(RedirectionPlan(), in: network.pod)
            try backend.leave(RedirectionPlan(), in: network.pod)
            let lasting = try Stream(family: family, in: network.pod)
            try lasting.connect(to: target)
            let lastingFar = try far.accept().stream
            do {
                let direct = try Self.client(Network.podAddress(family), in: network.pod)
                try direct.connect(to: target)
                try direct.exchange(with: far.accept().stream)
                try backend.remove(in: network.pod)
                Self.resetAtClose(direct)
            }
            try backend.apply(RedirectionPlan(), in: network.pod)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Self.client(Network.podAddress(family), in: network.pod)
            try app.connect(to: target)
            try Self.finish(app, ztunnel.outbound)
            #expect(!far.hasConnection)
            // One of the same time that is still open goes on.
            try lasting.exchange(with: lastingFar)
            try lastingFar.exchange(with: lasting)
        }
    }

    @Test(
        "into the pod: a connection of an earlier leaving, whose end nobody saw, does not keep its ports from capture",
        arguments: Means.allCases, IPAddress.Family.allCases)
    func inboundAfterLeaving(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try means.backend()
            let target = Endpoint(Network.podAddress(family), 8080)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            try backend.apply(RedirectionPlan(), in: network.pod)
            try backend.leave(RedirectionPlan(), in: network.pod)
            let lasting = try Stream(family: family, in: network.world)
            try lasting.connect(to: target)
            let lastingNear = try app.accept().stream
            do {
                let direct = try Self.client(Network.worldAddress(family), in: network.world)
                try direct.connect(to: target)
                try direct.exchange(with: app.accept().stream)
                try backend.remove(in: network.pod)
                Self.resetAtClose(direct)
            }
            try backend.apply(RedirectionPlan(), in: network.pod)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let client = try Self.client(Network.worldAddress(family), in: network.world)
            try client.connect(to: target)
            try Self.finish(client, ztunnel.inbound)
            #expect(!app.hasConnection)
            try lasting.exchange(with: lastingNear)
            try lastingNear.exchange(with: lasting)
        }
    }

    /// Why ``ForgottenConnections`` is there: with all of capture but that, the same connection goes past ztunnel.
    @Test(
        "what conntrack remembers of it is forgotten when capture begins; the rules alone would let the next one past",
        arguments: [false, true], IPAddress.Family.allCases)
    func rulesAlone(forgets: Bool, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let (backend, plan) = (NftablesBackend(), RedirectionPlan())
            let target = Endpoint(Network.worldAddress(family), 7000)
            let far = try Listener(target, in: network.world)
            try backend.apply(plan, in: network.pod)
            try backend.leave(plan, in: network.pod)
            do {
                let direct = try Self.client(Network.podAddress(family), in: network.pod)
                try direct.connect(to: target)
                try direct.exchange(with: far.accept().stream)
                try backend.remove(in: network.pod)
                Self.resetAtClose(direct)
            }
            try network.pod.run {
                var nftables = try NftablesSocket()
                var table = Nftables.Batch()
                table.addTable(RedirectionTable.name, comment: RedirectionTable.comment([:]))
                try nftables.commit(table)
                try NamespaceSetting.picksUpOpenConnections.setting.write("0")
                try nftables.commit(PlannedRules.Shelf().rules(plan, .capturing).fresh)
                var routes = try RouteSocket()
                if forgets { try ForgottenConnections.forget(&routes) }
            }
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Self.client(Network.podAddress(family), in: network.pod)
            try app.connect(to: target)
            if forgets {
                try Self.finish(app, ztunnel.outbound)
                #expect(!far.hasConnection)
            } else {
                try app.exchange(with: far.accept().stream)
                #expect(!ztunnel.outbound.hasConnection)
            }
        }
    }

    private static func resetAtClose(_ stream: Stream) {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(stream.fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
    }

    private static func client(_ address: IPAddress, in namespace: borrowing NetworkNamespace) throws -> Stream {
        let stream = try Stream(family: address.family, in: namespace)
        try Sockets.setReuseAddress(stream.fd)
        try Sockets.bind(stream.fd, to: Endpoint(address, 33_333), dualStack: address.family == .v6)
        return stream
    }

    /// Bytes both ways, then ztunnel closes first and the client after it.
    private static func finish(_ client: Stream, _ listener: Listener) throws {
        do {
            let accepted = try listener.accept().stream
            try client.exchange(with: accepted)
        }
        #expect(try client.receive(1).isEmpty)
    }
}
