import Addressing
import Glibc
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

/// What capture by eBPF must do beyond the packet walks that both back ends share.
@Suite("Capture by eBPF", .serialized)
struct EbpfTests {
    private static func enrolled(_ plan: RedirectionPlan = RedirectionPlan()) throws -> Network {
        let network = try Network()
        try Means.ebpf.backend().apply(plan, in: network.pod)
        return network
    }

    /// Whether a connection comes about within some retransmissions; `false` when nobody answers.
    private func connects(_ stream: Stream, to endpoint: Endpoint) throws -> Bool {
        if try Sockets.connect(stream.fd, to: endpoint, dualStack: !endpoint.address.isV4) { return true }
        var entry = pollfd(fd: stream.fd, events: Int16(POLLOUT), revents: 0)
        return poll(&entry, 1, 300) > 0 && Sockets.pendingError(stream.fd) == 0
    }

    @Test("a socket bound to an interface is captured as well", arguments: IPAddress.Family.allCases)
    func boundToInterface(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled()
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Stream(family: family, in: network.pod)
            #expect(setsockopt(app.fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4) == 0)
            let target = Endpoint(Network.worldAddress(family), 80)
            try app.connect(to: target)
            let accepted = try ztunnel.outbound.accept().stream
            #expect(accepted.wanted == target)
            try app.exchange(with: accepted)
        }
    }

    @Test("without ztunnel's listener nothing gets out or in", arguments: IPAddress.Family.allCases)
    func listenerGone(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled()
            let far = try Listener(Endpoint(any(family), 80), in: network.world)
            let near = try Listener(Endpoint(any(family), 80), in: network.pod)
            let out = try Stream(family: family, in: network.pod)
            #expect(try !connects(out, to: Endpoint(Network.worldAddress(family), 80)))
            let into = try Stream(family: family, in: network.world)
            #expect(try !connects(into, to: Endpoint(Network.podAddress(family), 80)))
            #expect(!far.hasConnection)
            #expect(!near.hasConnection)
        }
    }

    @Test("somebody else's listener on ztunnel's port gets nothing", arguments: IPAddress.Family.allCases)
    func impostor(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled()
            let impostor = try Listener(Endpoint(any(family), ZtunnelPort.outbound), in: network.pod)
            let app = try Stream(family: family, in: network.pod)
            #expect(try !connects(app, to: Endpoint(Network.worldAddress(family), 80)))
            #expect(!impostor.hasConnection)
        }
    }

    @Test("when the way to lo is gone nothing passes", arguments: IPAddress.Family.allCases)
    func policyRuleGone(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled()
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try network.pod.run { () throws(NetlinkError) in
                var routes = try RouteSocket()
                try routes.delete(PolicyRouting.rule(family))
            }
            let far = try Listener(Endpoint(any(family), 80), in: network.world)
            let out = try Stream(family: family, in: network.pod)
            #expect(try !connects(out, to: Endpoint(Network.worldAddress(family), 80)))
            #expect(!far.hasConnection)
            #expect(!ztunnel.outbound.hasConnection)
        }
    }

    @Test("a refusal finds its way, also where nothing is captured", arguments: IPAddress.Family.allCases)
    func refusals(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(RedirectionPlan(capturesInbound: false))
            for port: UInt16 in [ZtunnelPort.hbone, 8080] {
                let client = try Stream(family: family, in: network.world)
                let error = #expect(throws: SystemError.self) {
                    try client.connect(to: Endpoint(Network.podAddress(family), port))
                }
                #expect(error?.code == ECONNREFUSED)
            }
        }
    }

    @Test("the ports of a spared connection, used again, are captured", arguments: IPAddress.Family.allCases)
    func reusedPorts(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try Means.ebpf.backend()
            let target = Endpoint(Network.worldAddress(family), 7000)
            let far = try Listener(target, in: network.world)
            func connection() throws -> Stream {
                let stream = try Stream(family: family, in: network.pod)
                try Sockets.setReuseAddress(stream.fd)
                try Sockets.bind(
                    stream.fd, to: Endpoint(Network.podAddress(family), 40000), dualStack: family == .v6)
                try stream.connect(to: target)
                return stream
            }
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            do {
                let spared = try connection()
                let there = try far.accept().stream
                try backend.apply(RedirectionPlan(), in: network.pod)
                try spared.exchange(with: there)
                // Reset, so that no half of it keeps the ports.
                var linger = linger(l_onoff: 1, l_linger: 0)
                setsockopt(spared.fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
            }
            let again = try connection()
            let accepted = try ztunnel.outbound.accept().stream
            #expect(accepted.wanted == target)
            try again.exchange(with: accepted)
            #expect(!far.hasConnection)
        }
    }

    @Test("what comes in by an interface with guests is outbound", arguments: IPAddress.Family.allCases)
    func virtualInterface(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(RedirectionPlan(virtualInterfaces: ["eth0"]))
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            // The world plays the guest: its way to the service leads through the pod.
            try network.world.run { () throws(NetlinkError) in
                var routes = try RouteSocket()
                let link = try routes.link(named: "eth0")
                try routes.add(
                    Route(
                        to: CIDR(Network.serviceAddress(family)), via: Network.podAddress(family),
                        interface: link?.index, scope: .universe))
            }
            let target = Endpoint(Network.serviceAddress(family), 80)
            let guest = try Stream(family: family, in: network.world)
            try Sockets.bind(
                guest.fd, to: Endpoint(Network.worldAddress(family), 0), dualStack: family == .v6)
            try guest.connect(to: target)
            let (accepted, peer) = try ztunnel.outbound.accept()
            #expect(accepted.wanted == target)
            #expect(peer?.address == Network.worldAddress(family))
            try guest.exchange(with: accepted)
        }
    }

    @Test("an open connection with large writes goes on whole", arguments: IPAddress.Family.allCases)
    func bulk(family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled()
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Stream(family: family, in: network.pod)
            try app.connect(to: Endpoint(Network.serviceAddress(family), 80))
            let accepted = try ztunnel.outbound.accept().stream
            let text = String(repeating: "0123456789abcdef", count: 2048)
            for _ in 0..<50 { try app.exchange(with: accepted, text) }
        }
    }

    @Test("a node that changes its back end takes over what the other has captured")
    func sides() async throws {
        try await onThread {
            let network = try Network()
            let plan = RedirectionPlan(probePorts: [80], dropsUncaptured: true, requiresSeal: true)
            for mode in [RedirectionMode.nftables, .ebpf, .nftables, .ebpf] {
                let backend = try RedirectionChoice.make(mode).backend
                try backend.apply(plan, in: network.pod)
                #expect(try backend.verify(plan, .capturing, in: network.pod).isEmpty)
                #expect(try EbpfBackend.isAttached(in: network.pod) == (mode == .ebpf))
                #expect(try NftablesBackend.isPresent(in: network.pod) == (mode == .nftables))
                let ztunnel = try FakeZtunnel(.v4, in: network.pod)
                let app = try Stream(family: .v4, in: network.pod)
                try app.connect(to: Endpoint(Network.serviceAddress(.v4), 80))
                try app.exchange(with: ztunnel.outbound.accept().stream)
            }
            try RedirectionChoice.make(.nftables).backend.remove(in: network.pod)
            #expect(try !EbpfBackend.isAttached(in: network.pod))
        }
    }

    @Test("the kernel's features are tried, each with its reason")
    func features() async throws {
        let features = try await onThread { KernelFeatures.probe() }
        #expect(features.count == 4)
        #expect(features.allSatisfy { $0.isPresent }, "\(features)")
        #expect(KernelFeatures.missingForEbpf(features).isEmpty)
        let choice = try await onThread { try RedirectionChoice.make(.auto) }
        #expect(choice.reason.hasPrefix("ebpf"))
    }
}
