import Glibc
import LinuxNetwork
import Netlink
import Redirection
import Synchronization
import TestSupport
import Testing

@testable import NodeAgent

/// Somebody who commits to a namespace's nf_tables without a pause, on a thread of its own.
private final class BusyNeighbour: Sendable {
    private let thread: EventLoopThread<Void>
    private let isOver = Atomic<Bool>(false)
    private let commits = Atomic<Int>(0)

    init(_ pod: FakePod) throws {
        thread = try EventLoopThread(name: "busy") { _ in }
        let started = thread.submit { [self] _ in
            do {
                try pod.namespace.value.run { try self.work() }
            } catch {
                Issue.record("the busy neighbour has failed: \(error)")
            }
        }
        try #require(started)
    }

    private func work() throws {
        var nftables = try NftablesSocket()
        var first = Nftables.Batch()
        first.addTable("busy")
        first.addChain(Nftables.Chain("chain"), table: "busy")
        try nftables.commit(first)
        while !isOver.load(ordering: .relaxed) {
            var batch = Nftables.Batch()
            batch.flush(table: "busy", chain: "chain")
            for _ in 0..<8 { batch.addRule(Nftables.Rule([.counter]), chain: "chain", table: "busy") }
            try nftables.commit(batch)
            commits.wrappingAdd(1, ordering: .relaxed)
        }
    }

    var count: Int { commits.load(ordering: .relaxed) }

    func stop() {
        isOver.store(true, ordering: .relaxed)
        thread.stop()
    }
}

@Suite("nf_tables busy", .serialized)
struct BusyTableTests {
    @Test("with another program that changes tables all the time each act succeeds, in a bounded time")
    func acts() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        let neighbour = try BusyNeighbour(pod)
        try await eventually("the neighbour is at work") { neighbour.count > 100 }
        for _ in 0..<5 {
            let begun = ContinuousClock.now
            let added = await fixture.call(.add, "c1", pod, uid: "u-1")
            #expect(added.code == 0, "\(added)")
            let checked = await fixture.call(.check, "c1", pod)
            #expect(checked.code == 0, "\(checked)")
            try pod.harm()
            try await eventually("repaired", within: .seconds(5)) { try pod.drift().isEmpty }
            #expect(await fixture.call(.delete, "c1", pod).code == 0)
            #expect(try !pod.hasCapture())
            #expect(ContinuousClock.now - begun < .seconds(10))
        }
        neighbour.stop()
        #expect(neighbour.count > 500)
        try await fixture.stop()
    }
}
