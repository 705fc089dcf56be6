import Addressing
import LinuxNetwork
import Testing

@testable import Redirection

/// What is done before capture, beside the making of sockets.
@Suite("Preparing capture", .serialized)
struct PreparationTests {
    private static let plan = RedirectionPlan(probePorts: [8080], dropsUncaptured: true, requiresSeal: true)

    @Test("what is prepared captures nothing, and goes with removal", arguments: SealTests.Node.allCases)
    func neutral(node: SealTests.Node) async throws {
        try await onThread {
            let network = try Network()
            let backend = try node.backend()
            for _ in 0..<2 { try backend.prepare(Self.plan, in: network.pod) }
            for family in IPAddress.Family.allCases {
                let far = try Listener(Endpoint(any(family), 80), in: network.world)
                let near = try Listener(Endpoint(any(family), 8080), in: network.pod)
                let outgoing = try Stream(family: family, in: network.pod)
                try outgoing.connect(to: Endpoint(Network.worldAddress(family), 80))
                try outgoing.exchange(with: far.accept().stream)
                let incoming = try Stream(family: family, in: network.world)
                try incoming.connect(to: Endpoint(Network.podAddress(family), 8080))
                try incoming.exchange(with: near.accept().stream)
            }
            try backend.remove(in: network.pod)
            #expect(try network.pod.run { try EbpfDriftTests.filters() }.isEmpty)
        }
    }

    @Test("beside the rules or before them: capture is whole either way", arguments: SealTests.Node.allCases)
    func beside(node: SealTests.Node) async throws {
        let backend = try node.backend()
        for round in 0..<12 {
            let network = try Network()
            // Now the one begins first, now the other, and now and then it has ended by then.
            let preparation = Task { try await onThread { try backend.prepare(Self.plan, in: network.pod) } }
            if round % 3 == 0 { try await preparation.value }
            if round % 3 == 1 { await Task.yield() }
            try await onThread { try backend.apply(Self.plan, in: network.pod) }
            try await preparation.value
            let found = try await onThread { try backend.verify(Self.plan, .capturing, in: network.pod) }
            #expect(found.isEmpty, "round \(round)")
        }
    }

    @Test("what captures already stays as it is", arguments: SealTests.Node.allCases)
    func capturing(node: SealTests.Node) async throws {
        try await onThread {
            let network = try Network()
            let backend = try node.backend()
            try backend.apply(Self.plan, in: network.pod)
            let before = try network.pod.run { try EbpfDriftTests.filters() }
            try backend.prepare(Self.plan, in: network.pod)
            #expect(try network.pod.run { try EbpfDriftTests.filters() } == before)
            #expect(try backend.verify(Self.plan, .capturing, in: network.pod).isEmpty)
        }
    }
}
