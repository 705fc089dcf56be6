import Handover
import Testing

/// A session behind a reference: `#expect` takes no mutating calls.
private final class Session {
    var value: ZDSServerSession

    init(pods: [String], updated: Set<String> = [], isWhole: Bool = true) {
        value = ZDSServerSession(pods: pods, updated: updated, isWhole: isWhole)
    }

    var queue: [ZDSServerSession.Item] { value.queue }
    var standing: [String: ZDSServerSession.Standing] { value.standing }
    var isReady: Bool { value.isReady }
    var hasRefused: Bool { value.hasRefused }

    func add(_ uid: String) { value.add(uid) }
    func update(_ uid: String) { value.update(uid) }
    func delete(_ uid: String) -> Bool { value.delete(uid) }
    func endSnapshot() { value.endSnapshot() }
    func next() -> ZDSServerSession.Item? { value.next() }
    func answered(error: String) -> ZDSServerSession.Item? { value.answered(error: error) }
    func retryRefused() { value.retryRefused() }
    func retire() { value.retire() }
}

@Suite("What one ztunnel has been told")
struct ZDSServerSessionTests {
    @Test func aSnapshotThatIsNotWholeEndsOnceAndBehindWhatWasAdded() {
        let session = Session(pods: ["a"], isWhole: false)
        session.add("b")
        #expect(session.queue == [.add("a"), .add("b")])
        session.endSnapshot()
        session.endSnapshot()
        #expect(session.queue == [.add("a"), .add("b"), .snapshotSent])
        let whole = Session(pods: ["a"])
        whole.endSnapshot()
        #expect(whole.queue == [.add("a"), .snapshotSent])
    }

    @Test func snapshotThenChangesOneAtATime() {
        let session = Session(pods: ["a", "b"])
        #expect(session.next() == .add("a"))
        #expect(session.next() == nil)
        session.add("c")
        #expect(session.answered(error: "") == .add("a"))
        #expect(session.next() == .add("b"))
        #expect(session.answered(error: "no") == .add("b"))
        #expect(session.next() == .snapshotSent)
        #expect(!session.isReady)
        #expect(session.answered(error: "") == .snapshotSent)
        #expect(session.isReady)
        #expect(session.next() == .add("c"))
        #expect(session.standing == ["a": .served, "b": .refused("no")])
        #expect(session.hasRefused)
    }

    @Test func anAnswerToNothingIsNone() {
        let session = Session(pods: [])
        #expect(session.answered(error: "") == nil)
    }

    @Test func anUpdateFollowsItsPodAndOneWaitsAtATime() {
        let session = Session(pods: ["a", "b"], updated: ["a"])
        #expect(session.queue == [.add("a"), .update("a"), .add("b"), .snapshotSent])
        session.update("unknown")
        session.update("a")
        #expect(session.queue.count == 4)
        #expect(session.next() == .add("a"))
        #expect(session.answered(error: "") == .add("a"))
        #expect(session.next() == .update("a"))
        session.update("a")
        #expect(session.queue.last == .update("a"), "what it says is looked up when it is sent: this one is news")
        #expect(session.answered(error: "") == .update("a"))
        _ = session.delete("a")
        #expect(!session.queue.contains(.update("a")))
    }

    @Test func aRetiredZtunnelHearsOfChangesToWhatItHas() {
        let session = Session(pods: ["a", "b"], updated: ["b"])
        #expect(session.next() == .add("a"))
        #expect(session.answered(error: "") == .add("a"))
        session.update("a")
        session.retire()
        #expect(session.queue == [.snapshotSent, .update("a")])
    }

    @Test func aPodThatWasNeverSentNeedsNoDeletion() {
        let session = Session(pods: ["a", "b"])
        _ = session.next()
        #expect(!session.delete("b"))
        #expect(session.queue == [.snapshotSent])
        #expect(!session.delete("unknown"))
    }

    @Test func deletingWhatIsInFlight() {
        let session = Session(pods: ["a"])
        #expect(session.next() == .add("a"))
        #expect(session.delete("a"))
        #expect(session.delete("a"))
        #expect(session.answered(error: "") == .add("a"))
        #expect(session.standing == [:], "the answer is about a pod that is on its way out")
        #expect(session.next() == .snapshotSent)
        _ = session.answered(error: "")
        #expect(session.next() == .delete("a"))
        #expect(session.delete("a"))
        #expect(session.answered(error: "") == .delete("a"))
        #expect(session.next() == nil)
        #expect(!session.delete("a"))
    }

    @Test func aReplacedPodIsDeletedFirst() {
        let session = Session(pods: ["a"])
        for _ in 0..<2 {
            _ = session.next()
            _ = session.answered(error: "")
        }
        #expect(session.delete("a"))
        session.add("a")
        session.add("a")
        #expect(session.queue == [.delete("a"), .add("a")])
        #expect(session.next() == .delete("a"))
        _ = session.answered(error: "")
        #expect(session.next() == .add("a"))
        #expect(session.delete("a"), "it is known again")
    }

    @Test func retryAsksAboutTheRefusedOnly() {
        let session = Session(pods: ["a", "b"])
        _ = session.next()
        _ = session.answered(error: "")
        _ = session.next()
        _ = session.answered(error: "no")
        _ = session.next()
        _ = session.answered(error: "")
        session.retryRefused()
        #expect(session.queue == [.add("b")])
        #expect(session.standing["b"] == .refused("no"))
        _ = session.next()
        _ = session.answered(error: "")
        #expect(!session.hasRefused)
    }

    @Test func theRetiredHearOfDeletionsOnly() {
        let session = Session(pods: ["a"])
        _ = session.next()
        _ = session.answered(error: "")
        session.add("b")
        session.retire()
        #expect(session.queue == [.snapshotSent])
        #expect(session.delete("a"))
    }
}

@Suite("How many sockets a stock should hold")
struct StockGaugeTests {
    private func filled() -> StockGauge {
        var gauge = StockGauge()
        fill(&gauge)
        return gauge
    }

    private func fill(_ gauge: inout StockGauge) {
        while let next = gauge.nextPacket { gauge.sent(next) }
    }

    @Test func sixteenAtFirstInPacketsOfFour() {
        var gauge = StockGauge()
        #expect(gauge.nextPacket == 4)
        fill(&gauge)
        #expect(gauge.sockets == 16)
        #expect(gauge.nextPacket == nil)
    }

    @Test func takenPacketsAreReplaced() {
        var gauge = filled()
        let noneTaken = gauge.observe(packetsLeft: 4, at: 0)
        #expect(!noneTaken)
        let taken = gauge.observe(packetsLeft: 3, at: 0)
        #expect(taken)
        #expect(gauge.sockets == 12)
        #expect(gauge.target == 16)
        #expect(gauge.nextPacket == 4)
    }

    @Test func emptyDoublesUpToTheLimit() {
        var gauge = filled()
        for expected in [32, 64, 128, 256, 512, 512] {
            gauge.observe(packetsLeft: 0, at: 0)
            #expect(gauge.target == expected)
            #expect(gauge.sockets == 0)
            #expect(gauge.nextPacket == min(32, expected / 4))
            fill(&gauge)
            #expect(gauge.sockets == expected)
        }
    }

    @Test func aStockUsedUpWithinASecondGrowsUntilPacketsAreLargest() {
        var gauge = filled()
        var now: UInt64 = 5_000_000_000
        /// Takes one packet and fills up again.
        func take() {
            now += 1_000_000
            gauge.observe(packetsLeft: gauge.packetCount - 1, at: now)
            fill(&gauge)
        }
        for _ in 0..<4 { take() }
        #expect(gauge.target == 32)
        for _ in 0..<1000 { take() }
        #expect(gauge.target == StockGauge.brisk)
        #expect(gauge.nextPacket == nil)
    }

    @Test func aStockUsedUpSlowlyStaysAsItIs() {
        var gauge = filled()
        for second: UInt64 in 1...100 {
            gauge.observe(packetsLeft: 2, at: second * 1_000_000_000)
            fill(&gauge)
        }
        #expect(gauge.target == StockGauge.least)
    }

    @Test func restHalvesAndLeavesASurplus() {
        var gauge = filled()
        for _ in 0..<2 {
            gauge.observe(packetsLeft: 0, at: 0)
            fill(&gauge)
        }
        #expect(gauge.sockets == 64)
        let more = gauge.rest()
        #expect(more)
        #expect(gauge.surplus)
        while gauge.surplus { gauge.tookBack() }
        #expect(gauge.sockets == 32)
        let demand = gauge.observe(packetsLeft: 2, at: 0)
        #expect(!demand, "what the keeper took back is no demand")
        let last = gauge.rest()
        #expect(!last)
        #expect(gauge.target == 16)
    }
}
