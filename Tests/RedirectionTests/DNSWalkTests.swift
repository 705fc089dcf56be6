import Addressing
import Glibc
import LinuxNetwork
import Testing

@testable import Redirection

@Suite("Packet walk E: DNS", .serialized)
struct DNSWalkTests {
    private static func enrolled(_ tested: Means, dns: Bool = true) throws -> Network {
        let network = try Network()
        let plan = RedirectionPlan(capturesDNS: dns)
        try tested.backend().apply(plan, in: network.pod)
        #expect(try tested.backend().verify(plan, .capturing, in: network.pod).isEmpty)
        return network
    }

    @Test(
        "a question reaches 15053, and the answer comes from whom was asked", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func datagrams(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested)
            let proxy = try DatagramSocket.proxy(family, in: network.pod)
            let app = try DatagramSocket(family, in: network.pod)
            try app.connect(to: Endpoint(Network.serviceAddress(family), 53))
            try app.send(dnsQuestion)
            let (bytes, source) = try proxy.receive()
            #expect(bytes == dnsQuestion)
            // Where nothing translates, the proxy answers in the name of whom was asked.
            let answering =
                try !tested.usesPrograms
                ? proxy
                : DatagramSocket(
                    family, at: Network.serviceAddress(family), port: ZtunnelPort.dns, in: network.pod, ztunnel: true,
                    transparent: true)
            try answering.send([7], to: source)
            #expect(try app.receive().bytes == [7])
        }
    }

    @Test(
        "over TCP too, before it would be outbound", arguments: Means.allCases, IPAddress.Family.allCases)
    func streams(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let proxy = try Listener(Endpoint(any(family), ZtunnelPort.dns), in: network.pod, ztunnel: true)
            let app = try Stream(family: family, in: network.pod)
            try app.connect(to: Endpoint(Network.serviceAddress(family), 53))
            try app.exchange(with: proxy.accept().stream)
            #expect(!ztunnel.outbound.hasConnection)
        }
    }

    @Test(
        "ztunnel asks the name server the app has asked, from the port the app had", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func samePort(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested)
            let server = try DatagramSocket(family, port: 53, in: network.world)
            let proxy = try DatagramSocket.proxy(family, in: network.pod)
            let target = Endpoint(Network.worldAddress(family), 53)
            do {
                let app = try DatagramSocket(family, port: 40_000, in: network.pod)
                try app.send(dnsQuestion, to: target)
                #expect(try proxy.receive().source == Endpoint(Network.podAddress(family), 40_000))
            }

            let upstream = try DatagramSocket(family, port: 40_000, in: network.pod, ztunnel: true)
            try upstream.connect(to: target)
            try upstream.send(dnsQuestion)
            let source = try server.receive().source
            #expect(source == Endpoint(Network.podAddress(family), 40_000))
            #expect(!proxy.hasDatagram)
            try server.send([8], to: source)
            #expect(try upstream.receive().bytes == [8])
        }
    }

    @Test(
        "what is no question goes to the server it is meant for", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func update(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested)
            let server = try DatagramSocket(family, port: 53, in: network.world)
            let proxy = try DatagramSocket.proxy(family, in: network.pod)
            let app = try DatagramSocket(family, in: network.pod)
            // Opcode 5, an update (RFC 2136).
            let update = [dnsQuestion[0], dnsQuestion[1], 5 << 3] + dnsQuestion.dropFirst(3)
            try app.send(update, to: Endpoint(Network.worldAddress(family), 53))
            #expect(try server.receive().bytes == update)
            #expect(!proxy.hasDatagram)
        }
    }

    @Test(
        "a resolver in the pod is asked itself", arguments: Means.allCases, IPAddress.Family.allCases)
    func ownResolver(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested)
            let proxy = try DatagramSocket.proxy(family, in: network.pod)
            let resolver = try DatagramSocket(family, port: 53, in: network.pod)
            let loopback: IPAddress = family == .v4 ? .loopbackV4 : .loopbackV6
            let stub = family == .v4 ? [IPAddress(127, 0, 0, 53)] : []
            for address in [loopback, Network.podAddress(family)] + stub {
                let app = try DatagramSocket(family, in: network.pod)
                try app.send(dnsQuestion, to: Endpoint(address, 53))
                #expect(try resolver.receive().bytes == dnsQuestion)
            }
            #expect(!proxy.hasDatagram)
        }
    }

    @Test(
        "where DNS is not captured a question goes to its server", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func notCaptured(tested: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Self.enrolled(tested, dns: false)
            let server = try DatagramSocket(family, port: 53, in: network.world)
            let app = try DatagramSocket(family, in: network.pod)
            try app.connect(to: Endpoint(Network.worldAddress(family), 53))
            try app.send(dnsQuestion)
            try server.send([7], to: server.receive().source)
            #expect(try app.receive().bytes == [7])
        }
    }
}
