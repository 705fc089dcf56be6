import Addressing
import LinuxNetwork
import Testing

@testable import Redirection

@Suite("Open connections at enrolment and un-enrolment", .serialized)
struct LiveConnectionTests {
    @Test(
        "those open before go on through enrolment, leaving and removal", arguments: Means.allCases,
        IPAddress.Family.allCases)
    func survive(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try means.backend()
            let plan = RedirectionPlan()
            let open = try OpenConnections(network, family)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try backend.apply(plan, in: network.pod)
            try open.exchange()
            #expect(!ztunnel.outbound.hasConnection)
            #expect(!ztunnel.inbound.hasConnection)
            // New ones take the new way meanwhile.
            let captured = try Stream(family: family, in: network.pod)
            try captured.connect(to: Endpoint(Network.worldAddress(family), 7000))
            try captured.exchange(with: ztunnel.outbound.accept().stream)
            try backend.leave(plan, in: network.pod)
            try open.exchange()
            try backend.remove(in: network.pod)
            try open.exchange()
        }
    }

    @Test("control: without care both are reset", arguments: Means.allCases, IPAddress.Family.allCases)
    func control(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let open = try OpenConnections(network, family)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            try means.backend().apply(RedirectionPlan(sparesOpenConnections: false), in: network.pod)
            #expect(throws: (any Error).self) {
                try open.out.exchange(with: open.outFar)
            }
            #expect(throws: (any Error).self) {
                try open.into.exchange(with: open.intoNear)
            }
            withExtendedLifetime(ztunnel) {}
        }
    }

    @Test("captured ones go on while leaving; new ones go direct", arguments: Means.allCases, IPAddress.Family.allCases)
    func leaving(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try means.backend()
            let plan = RedirectionPlan()
            try backend.apply(plan, in: network.pod)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Listener(Endpoint(any(family), 8080), in: network.pod)
            let far = try Listener(Endpoint(any(family), 7000), in: network.world)

            let out = try Stream(family: family, in: network.pod)
            try out.connect(to: Endpoint(Network.worldAddress(family), 7000))
            let outHere = try ztunnel.outbound.accept().stream
            let into = try Stream(family: family, in: network.world)
            try into.connect(to: Endpoint(Network.podAddress(family), 8080))
            let intoHere = try ztunnel.inbound.accept().stream
            let toApp = try FakeZtunnel.dial(
                Endpoint(Network.podAddress(family), 8080), as: Network.worldAddress(family), in: network.pod)
            let served = try app.accept().stream
            func captured() throws {
                try out.exchange(with: outHere)
                try outHere.exchange(with: out)
                try into.exchange(with: intoHere)
                try intoHere.exchange(with: into)
                try toApp.exchange(with: served)
                try served.exchange(with: toApp)
            }
            try captured()
            #expect(try backend.capturedConnections(in: network.pod) == 3)

            try backend.leave(plan, in: network.pod)
            #expect(try backend.verify(plan, .leaving, in: network.pod).isEmpty)
            try captured()
            let direct = try Stream(family: family, in: network.pod)
            try direct.connect(to: Endpoint(Network.worldAddress(family), 7000))
            try direct.exchange(with: far.accept().stream)
            let inward = try Stream(family: family, in: network.world)
            try inward.connect(to: Endpoint(Network.podAddress(family), 8080))
            try inward.exchange(with: app.accept().stream)
            try captured()
            #expect(try backend.capturedConnections(in: network.pod) == 3)
        }
    }

    @Test("once captured connections are closed none is counted", arguments: Means.allCases, IPAddress.Family.allCases)
    func counting(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let network = try Network()
            let backend = try means.backend()
            try backend.apply(RedirectionPlan(), in: network.pod)
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            func oneConnection() throws {
                let app = try Stream(family: family, in: network.pod)
                try app.connect(to: Endpoint(Network.serviceAddress(family), 80))
                let here = try ztunnel.outbound.accept().stream
                #expect(try backend.capturedConnections(in: network.pod) == 1)
                try app.exchange(with: here)
            }
            try oneConnection()
            #expect(try backend.capturedConnections(in: network.pod) == 0)
        }
    }
}

/// One connection out of the pod and one into it, established.
struct OpenConnections {
    let out: Stream
    let outFar: Stream
    let into: Stream
    let intoNear: Stream

    init(_ network: Network, _ family: IPAddress.Family) throws {
        let far = try Listener(Endpoint(any(family), 7000), in: network.world)
        let near = try Listener(Endpoint(any(family), 7000), in: network.pod)
        out = try Stream(family: family, in: network.pod)
        try out.connect(to: Endpoint(Network.worldAddress(family), 7000))
        outFar = try far.accept().stream
        into = try Stream(family: family, in: network.world)
        try into.connect(to: Endpoint(Network.podAddress(family), 7000))
        intoNear = try near.accept().stream
        try exchange()
    }

    func exchange() throws {
        try out.exchange(with: outFar)
        try outFar.exchange(with: out)
        try into.exchange(with: intoNear)
        try intoNear.exchange(with: into)
    }
}
