import Foundation
import Mesh
import Testing

@testable import Identity

/// A ledger behind a reference, because the expectation macros take no mutating calls.
private final class Ledger {
    private(set) var value: CertificateLedger

    init(fetches: Int, identities: Int) {
        value = CertificateLedger(timing: RenewalTiming(), maximumFetches: fetches, maximumIdentities: identities)
    }

    var entries: [SPIFFEIdentity: CertificateLedger.Entry] { value.entries }
    var nextMoment: Date? { value.nextMoment }

    func certificate(_ identity: SPIFFEIdentity, now: Date) -> WorkloadCertificate? {
        value.certificate(identity, now: now)
    }

    func want(_ identity: SPIFFEIdentity, _ priority: CertificatePriority, now: Date) -> CertificateLedger.Answer {
        value.want(identity, priority, now: now)
    }

    func startNext() -> CertificateLedger.Attempt? { value.startNext() }

    func finish(
        _ attempt: UInt64, _ outcome: Result<WorkloadCertificate, IdentityError>, now: Date, chance: Double
    ) -> Bool {
        value.finish(attempt, outcome, now: now, chance: chance)
    }

    func advance(to now: Date) { value.advance(to: now) }
    func forget(_ identity: SPIFFEIdentity) -> UInt64? { value.forget(identity) }
}

/// The manager's state machine alone: no tasks, no time but what is passed in.
@Suite struct CertificateLedgerTests {
    let start = Date(timeIntervalSince1970: 1_800_000_000)
    let failure = IdentityError(.authorityUnreachable, "no route")

    private func ledger(fetches: Int = 8, identities: Int = 100) -> Ledger {
        Ledger(fetches: fetches, identities: identities)
    }

    private func certificate(_ identity: SPIFFEIdentity, at now: Date, life: Double = 3600) -> WorkloadCertificate {
        WorkloadCertificate(
            identity: identity, chainDER: [], privateKeyDER: [], rootsDER: [], notBefore: now, notAfter: now + life,
            serialNumber: "01")
    }

    private func isWait(_ answer: CertificateLedger.Answer) -> Bool {
        if case .wait = answer { true } else { false }
    }

    @Test func urgentBeforeOldAndOldBeforeYoung() {
        let ledger = ledger(fetches: 1)
        for (name, priority) in [
            ("b1", CertificatePriority.background), ("w1", .warmup), ("r1", .realTime), ("b2", .background),
            ("r2", .realTime), ("w2", .warmup),
        ] {
            #expect(isWait(ledger.want(workload(name), priority, now: start)))
        }
        var order: [String] = []
        while let attempt = ledger.startNext() {
            #expect(ledger.startNext() == nil)
            order.append(attempt.identity.serviceAccount)
            let got = certificate(attempt.identity, at: start)
            #expect(ledger.finish(attempt.number, .success(got), now: start, chance: 0.5))
        }
        #expect(order == ["r1", "r2", "w1", "w2", "b1", "b2"])
    }

    @Test func aRequestRaisesAndNeverLowers() {
        let ledger = ledger(fetches: 1)
        _ = ledger.want(workload("a"), .warmup, now: start)
        _ = ledger.want(workload("b"), .background, now: start)
        _ = ledger.want(workload("b"), .realTime, now: start)
        _ = ledger.want(workload("b"), .background, now: start)
        #expect(ledger.startNext()?.identity == workload("b"))
    }

    @Test func aRaisedRequestKeepsItsPlaceAmongEquals() {
        let ledger = ledger(fetches: 1)
        _ = ledger.want(workload("first"), .background, now: start)
        _ = ledger.want(workload("second"), .realTime, now: start)
        _ = ledger.want(workload("first"), .realTime, now: start)
        #expect(ledger.startNext()?.identity == workload("first"))
    }

    @Test func noMoreRunThanAllowed() {
        let ledger = ledger(fetches: 3)
        for number in 0..<10 { _ = ledger.want(workload("w\(number)"), .warmup, now: start) }
        let running = (0..<10).compactMap { _ in ledger.startNext() }
        #expect(running.count == 3)
        #expect(ledger.finish(running[0].number, .failure(failure), now: start, chance: 0.5))
        #expect(ledger.startNext() != nil)
        #expect(ledger.startNext() == nil)
    }

    @Test func aForgottenAttemptKeepsItsPlaceUntilItEnds() throws {
        let ledger = ledger(fetches: 1)
        _ = ledger.want(workload("a"), .warmup, now: start)
        let attempt = try #require(ledger.startNext())
        #expect(ledger.forget(workload("a")) == attempt.number)
        _ = ledger.want(workload("a"), .realTime, now: start)
        #expect(ledger.startNext() == nil)
        // What comes back late is for a key that nobody has any more.
        let late = certificate(workload("a"), at: start)
        #expect(!ledger.finish(attempt.number, .success(late), now: start, chance: 0.5))
        #expect(ledger.certificate(workload("a"), now: start) == nil)
        #expect(ledger.startNext()?.identity == workload("a"))
    }

    @Test func anAttemptCountsOnce() throws {
        let ledger = ledger()
        _ = ledger.want(workload("a"), .warmup, now: start)
        let attempt = try #require(ledger.startNext())
        #expect(ledger.finish(attempt.number, .failure(failure), now: start, chance: 0.5))
        let late = certificate(workload("a"), at: start)
        #expect(!ledger.finish(attempt.number, .success(late), now: start, chance: 0.5))
    }

    @Test func whileItRestsTheLastErrorIsTheAnswer() throws {
        let ledger = ledger()
        _ = ledger.want(workload("a"), .realTime, now: start)
        let attempt = try #require(ledger.startNext())
        _ = ledger.finish(attempt.number, .failure(failure), now: start, chance: 0.5)
        guard case .failure(let error) = ledger.want(workload("a"), .realTime, now: start + 0.5) else {
            Issue.record("no error at once")
            return
        }
        #expect(error.code == .authorityUnreachable)
        #expect(isWait(ledger.want(workload("a"), .realTime, now: start + 1)))
    }

    @Test func failuresBackOffAndSuccessResets() throws {
        let ledger = ledger()
        var now = start
        _ = ledger.want(workload("a"), .warmup, now: now)
        for expected in [1.0, 2, 4, 8, 16, 32, 64, 125, 125] {
            let attempt = try #require(ledger.startNext())
            _ = ledger.finish(attempt.number, .failure(failure), now: now, chance: 0.5)
            let next = try #require(ledger.nextMoment)
            #expect(abs(next.timeIntervalSince(now) - expected) < 0.001)
            ledger.advance(to: next - 0.01)
            #expect(ledger.startNext() == nil)
            now = next
            ledger.advance(to: now)
        }
        let attempt = try #require(ledger.startNext())
        let got = certificate(workload("a"), at: now)
        _ = ledger.finish(attempt.number, .success(got), now: now, chance: 0.5)
        #expect(ledger.entries[workload("a")]?.failures == 0)
        #expect(ledger.nextMoment == now + 1800)
    }

    @Test func aValidCertificateSurvivesFailureAndIsRetriedNoLaterThanItsEnd() throws {
        let ledger = ledger()
        _ = ledger.want(workload("a"), .warmup, now: start)
        let first = try #require(ledger.startNext())
        let got = certificate(workload("a"), at: start)
        _ = ledger.finish(first.number, .success(got), now: start, chance: 0.5)
        ledger.advance(to: start + 1800)
        // Renewal fails again and again, the last time half a second before the end.
        for now in [start + 1800, start + 3000, start + 3599.5] {
            ledger.advance(to: now)
            let attempt = try #require(ledger.startNext())
            _ = ledger.finish(attempt.number, .failure(failure), now: now, chance: 0.5)
            #expect(ledger.certificate(workload("a"), now: now) != nil)
            #expect(try #require(ledger.nextMoment) <= start + 3600)
        }
        #expect(ledger.certificate(workload("a"), now: start + 3599.9) != nil)
        #expect(ledger.certificate(workload("a"), now: start + 3600) == nil)
        ledger.advance(to: start + 3600)
        #expect(ledger.entries[workload("a")]?.certificate == nil)
        #expect(ledger.entries[workload("a")]?.phase != nil)
        #expect(ledger.startNext()?.identity == workload("a"))
    }

    @Test func aRenewalWaitsBehindWhatIsNeededNow() throws {
        let ledger = ledger(fetches: 1)
        _ = ledger.want(workload("old"), .warmup, now: start)
        let first = try #require(ledger.startNext())
        let got = certificate(workload("old"), at: start)
        _ = ledger.finish(first.number, .success(got), now: start, chance: 0.5)
        ledger.advance(to: start + 1800)
        _ = ledger.want(workload("new"), .warmup, now: start + 1800)
        #expect(ledger.startNext()?.identity == workload("new"))
    }

    @Test func identitiesAreLimited() {
        let ledger = ledger(identities: 2)
        _ = ledger.want(workload("a"), .warmup, now: start)
        _ = ledger.want(workload("b"), .warmup, now: start)
        guard case .failure(let error) = ledger.want(workload("c"), .realTime, now: start) else {
            Issue.record("the third was taken")
            return
        }
        #expect(error.code == .tooManyIdentities)
        _ = ledger.forget(workload("a"))
        #expect(isWait(ledger.want(workload("c"), .realTime, now: start)))
    }
}
