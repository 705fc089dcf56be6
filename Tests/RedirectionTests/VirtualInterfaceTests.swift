import Addressing
import Glibc
import LinuxNetwork
import Testing

@testable import Redirection

/// What a guest of the pod sends comes in by an interface of the pod's, and is outbound all the same.
@Suite("Packet walk G: a virtual interface", .serialized)
struct VirtualInterfaceTests {
    private static func enrolled(
        _ tested: Means, interfaces: [String] = [Guest.interface], dns: Bool = false, addressed: Bool = true
    ) throws -> (Network, Guest) {
        let network = try Network()
        let guest = try Guest(of: network, addressed: addressed)
        let plan = RedirectionPlan(capturesDNS: dns, virtualInterfaces: interfaces)
        try tested.backend().apply(plan, in: network.pod)
        #expect(try tested.backend().verify(plan, .capturing, in: network.pod).isEmpty)
        return (network, guest)
    }

    @Test(
        "the guest's connection reaches 15001 and says where it wanted to go", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func outbound(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let (network, guest) = try Self.enrolled(tested)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let world = try Listener(Endpoint(any(family), 80), in: network.world)
            // Also where it would reach somebody, and where it means the pod itself.
            let targets = [
                Network.serviceAddress(family), Network.worldAddress(family), Network.podAddress(family),
            ]
            for target in targets.map({ Endpoint($0, 80) }) {
                let stream = try Stream(family: family, in: guest.namespace)
                try stream.connect(to: target)
                let (accepted, peer) = try ztunnel.outbound.accept()
                #expect(peer?.address == Guest.address(family))
                if !tested.usesPrograms { #expect(Sockets.originalDestination(accepted.fd) == target) }
                try stream.exchange(with: accepted)
            }
            #expect(!world.hasConnection)
            #expect(!ztunnel.inbound.hasConnection)
        }
    }

    @Test(
        "HBONE's port is no exception for a guest", arguments: Means.allCases, IPAddress.Family.allCases)
    func hbonePort(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let (network, guest) = try Self.enrolled(tested)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let stream = try Stream(family: family, in: guest.namespace)
            try stream.connect(to: Endpoint(Network.worldAddress(family), ZtunnelPort.hbone))
            try stream.exchange(with: ztunnel.outbound.accept().stream)
            #expect(!ztunnel.hbone.hasConnection)
        }
    }

    @Test(
        "UDP of that interface is untouched, DNS too", arguments: Means.allCases, IPAddress.Family.allCases)
    func datagrams(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let (network, guest) = try Self.enrolled(tested, dns: true)
            let proxy = try DatagramSocket.proxy(family, in: network.pod)
            for port: UInt16 in [9999, 53] {
                let server = try DatagramSocket(
                    family, at: Network.worldAddress(family), port: port, in: network.world)
                let client = try DatagramSocket(family, in: guest.namespace)
                try client.connect(to: Endpoint(Network.worldAddress(family), port))
                try client.send(dnsQuestion)
                let (bytes, source) = try server.receive()
                #expect(bytes == dnsQuestion)
                #expect(source.address == Guest.address(family))
                try server.send([7], to: source)
                #expect(try client.receive().bytes == [7])
            }
            #expect(!proxy.hasDatagram)
        }
    }

    @Test(
        "an interface that is not named is the pod's own: its TCP is inbound", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func unnamed(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let (network, guest) = try Self.enrolled(tested, interfaces: ["net11", "net"])
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let stream = try Stream(family: family, in: guest.namespace)
            try stream.connect(to: Endpoint(Network.podAddress(family), 80))
            try stream.exchange(with: ztunnel.inbound.accept().stream)
            #expect(!ztunnel.outbound.hasConnection)
        }
    }

    @Test("inbound of the pod's own interface is as before", arguments: IPAddress.Family.allCases)
    func inboundBeside(family: IPAddress.Family) async throws {
        try await onThread {
            let (network, guest) = try Self.enrolled(.nftables)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let stream = try Stream(family: family, in: network.world)
            try stream.connect(to: Endpoint(Network.podAddress(family), 80))
            try stream.exchange(with: ztunnel.inbound.accept().stream)
            #expect(!ztunnel.outbound.hasConnection)
            withExtendedLifetime(guest) {}
        }
    }

    @Test("an interface without an address lets no connection pass", arguments: Means.allCases)
    func unaddressed(tested: Means) async throws {
        try await onThread {
            let (network, guest) = try Self.enrolled(tested, addressed: false)
            try network.pod.run {
                try KernelSetting(path: "/proc/sys/net/ipv4/conf/\(Guest.interface)/proxy_arp").write("1")
            }
            let world = try Listener(Endpoint(any(.v4), 80), in: network.world)
            // That packets of the guest come that far is shown by what is not TCP.
            let server = try DatagramSocket(.v4, port: 9999, in: network.world)
            let client = try DatagramSocket(.v4, in: guest.namespace)
            try client.send([1], to: Endpoint(Network.worldAddress(.v4), 9999))
            #expect(try server.receive().bytes == [1])

            let stream = try Stream(family: .v4, in: guest.namespace)
            _ = try Sockets.connect(stream.fd, to: Endpoint(Network.worldAddress(.v4), 80), dualStack: false)
            // A datagram sent after the SYN takes the same way, and arrives after it would have.
            try client.send([2], to: Endpoint(Network.worldAddress(.v4), 9999))
            #expect(try server.receive().bytes == [2])
            #expect(!world.hasConnection)
        }
    }

    @Test(
        "while the pod leaves, the guest's captured connection goes on and new ones go their own way",
        arguments: Means.allCases, IPAddress.Family.allCases)
    func leaving(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let (network, guest) = try Self.enrolled(tested)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let old = try Stream(family: family, in: guest.namespace)
            try old.connect(to: Endpoint(Network.worldAddress(family), 80))
            let captured = try ztunnel.outbound.accept().stream
            try tested.backend().leave(RedirectionPlan(virtualInterfaces: [Guest.interface]), in: network.pod)
            try old.exchange(with: captured)

            let world = try Listener(Endpoint(any(family), 80), in: network.world)
            let new = try Stream(family: family, in: guest.namespace)
            try new.connect(to: Endpoint(Network.worldAddress(family), 80))
            try new.exchange(with: world.accept().stream)
            try old.exchange(with: captured)
        }
    }

    @Test("an interface comes into the plan and goes out of it", arguments: Means.allCases)
    func comesAndGoes(tested: Means) async throws {
        try await onThread {
            let (network, guest) = try Self.enrolled(tested, interfaces: [])
            let ztunnel = try FakeZtunnel(.v4, in: network.pod)
            for interfaces in [[Guest.interface], []] {
                let plan = RedirectionPlan(virtualInterfaces: interfaces)
                #expect(try !tested.backend().verify(plan, .capturing, in: network.pod).isEmpty)
                try tested.backend().apply(plan, in: network.pod)
                #expect(try tested.backend().verify(plan, .capturing, in: network.pod).isEmpty)
                let stream = try Stream(family: .v4, in: guest.namespace)
                try stream.connect(to: Endpoint(Network.podAddress(.v4), 80))
                _ = try (interfaces.isEmpty ? ztunnel.inbound : ztunnel.outbound).accept()
            }
        }
    }

    @Test(
        "a plan takes what an interface can be called, once and in order",
        arguments: [
            (["b", "a", "b"], ["a", "b"]), (["", "lo", ".", "..", "a/b", "a b", "a:b", "a\n"], []),
            (["123456789012345", "1234567890123456"], ["123456789012345"]),
        ] as [([String], [String])])
    func names(given: [String], taken: [String]) {
        #expect(RedirectionPlan(virtualInterfaces: given).virtualInterfaces == taken)
    }

    @Test("no more of them than count")
    func most() {
        let plan = RedirectionPlan(virtualInterfaces: (10..<99).map { "net\($0)" })
        #expect(plan.virtualInterfaces.count == RedirectionPlan.mostVirtualInterfaces)
    }
}

/// A question of the DNS, as short as one can be: id 1, recursion wanted, no name.
let dnsQuestion: [UInt8] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]
