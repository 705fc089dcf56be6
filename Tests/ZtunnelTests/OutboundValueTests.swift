import Addressing
import HBONE
import Testing

@testable import Ztunnel

@Suite("Ejection of endpoints")
struct EjectionTableTests {
    private static let service = Endpoint(IPAddress(10, 96, 0, 1), 80)
    private static let second: UInt64 = 1_000_000_000

    /// The table behind a reference: `#expect` takes no mutating calls.
    private final class Table {
        var value = EjectionTable()
        func fail(_ uid: String, among endpoints: Int = 3, at now: UInt64, times: Int = 1) -> UInt64? {
            var pause: UInt64?
            for _ in 0..<times { pause = value.failed(uid, of: service, among: endpoints, at: now) }
            return pause
        }
        func ejected(at now: UInt64) -> Set<String> { value.ejected(from: service, at: now) }
    }

    @Test func threeFailuresInARowEjectForATime() {
        let table = Table()
        #expect(table.fail("a", at: 1, times: 2) == nil)
        #expect(table.ejected(at: 1) == [])
        #expect(table.fail("a", at: 1) == 5 * Self.second)
        #expect(table.ejected(at: 2) == ["a"])
        #expect(table.ejected(at: 1 + 5 * Self.second) == [])
    }

    @Test func aSuccessForgivesEverything() {
        let table = Table()
        _ = table.fail("a", at: 1, times: 2)
        table.value.succeeded("a", of: Self.service)
        #expect(table.value.count == 0)
        #expect(table.fail("a", at: 1, times: 2) == nil)
    }

    @Test func whoFailsAgainStaysAwayTwiceAsLongUpToFiveMinutes() {
        let table = Table()
        var now: UInt64 = 1
        var pauses = [table.fail("a", at: now, times: 3)]
        for _ in 0..<8 {
            now += (pauses.last ?? nil) ?? 0
            pauses.append(table.fail("a", at: now))
        }
        #expect(pauses.map { ($0 ?? 0) / Self.second } == [5, 10, 20, 40, 80, 160, 300, 300, 300])
    }

    @Test func theLastEndpointIsNeverEjected() {
        let table = Table()
        #expect(table.fail("a", among: 1, at: 1, times: 10) == nil)
        #expect(table.fail("b", among: 2, at: 1, times: 3) != nil)
        #expect(table.fail("c", among: 2, at: 1, times: 10) == nil)
        #expect(table.ejected(at: 1) == ["b"])
    }

    @Test func anEndpointIsEjectedFromOneServicePortAlone() {
        let table = Table()
        _ = table.fail("a", at: 1, times: 3)
        #expect(table.value.ejected(from: Endpoint(Self.service.address, 81), at: 2) == [])
    }

    @Test func theTableIsBoundedAndForgetsWhatIsOld() {
        let table = Table()
        for number in 0..<EjectionTable.capacity { _ = table.fail("pod-\(number)", among: .max, at: 1) }
        #expect(table.value.count == EjectionTable.capacity)
        #expect(table.fail("one more", among: .max, at: 2, times: 5) == nil)
        #expect(table.value.count == EjectionTable.capacity)
        #expect(table.fail("later", among: .max, at: 2 + EjectionTable.memory, times: 3) != nil)
        #expect(table.value.count == 1)
    }
}

@Suite("What a connection tries")
struct AttemptsTests {
    private func next(_ kinds: [(TunnelFailure.Kind, String?, UInt64)]) -> [Attempts.Next] {
        var attempts = Attempts(at: 0)
        attempts.began()
        return kinds.map { kind, endpoint, now in
            let next = attempts.next(after: kind, of: endpoint, at: now)
            attempts.began()
            return next
        }
    }

    @Test func aTunnelThatWasLostIsReplacedThenTheEndpoint() {
        let lost = (TunnelFailure.Kind.tunnelLost, Optional("a"), UInt64(1))
        #expect(next([lost, lost, lost]) == [.sameEndpoint, .sameEndpoint, .otherEndpoint])
    }

    @Test func anEndpointThatFailsGivesWayThreeInAll() {
        #expect(
            next([(.endpoint, "a", 1), (.busy, "b", 2), (.endpoint, "c", 3)]) == [
                .otherEndpoint, .otherEndpoint, .giveUp,
            ])
    }

    @Test func thereIsNoOtherWayForAnAddressARefusalOrAfterHalfAMinute() {
        #expect(next([(.endpoint, nil, 1)]) == [.giveUp])
        #expect(next([(.final, "a", 1)]) == [.giveUp])
        #expect(next([(.endpoint, "a", Attempts.patience)]) == [.giveUp])
    }

    @Test func responseFlagsSayWhy() {
        let codes: [(HBONEError.Code, String, TunnelFailure.Kind)] = [
            (.tls, "TLS_FAILURE", .endpoint), (.handshakeTimedOut, "TLS_FAILURE", .endpoint),
            (.settingsTimedOut, "H2_HANDSHAKE_FAILURE", .endpoint), (.connectTimedOut, "NETWORK_POLICY", .endpoint),
            (.connectFailed, "CONNECT", .endpoint), (.connectionLost, "CONNECT", .tunnelLost),
            (.goingAway, "CONNECT", .tunnelLost), (.closedLocally, "-", .final),
        ]
        for (code, flag, kind) in codes {
            let failure = TunnelFailure(HBONEError(code, "x"))
            #expect(failure.flag.rawValue == flag, "\(code)")
            #expect(failure.kind == kind, "\(code)")
        }
        let statuses: [(Int, String, TunnelFailure.Kind)] = [
            (401, "DENY", .final), (503, "UNREACHABLE", .endpoint), (429, "LIMIT", .busy), (400, "CONNECT", .final),
        ]
        for (status, flag, kind) in statuses {
            let failure = TunnelFailure(refusal: status)
            #expect(failure.flag.rawValue == flag, "\(status)")
            #expect(failure.kind == kind, "\(status)")
            #expect(failure.text.hasSuffix("http status: \(status)"))
        }
    }
}

@Suite("Limits of a pod")
struct ConnectionLimiterTests {
    private static let second: UInt64 = 1_000_000_000

    private func refusal(_ limiter: ConnectionLimiter, at now: UInt64) -> ConnectionLimiter.Refusal? {
        do throws(ConnectionLimiter.Refusal) {
            try limiter.take(at: now)
            return nil
        } catch {
            return error
        }
    }

    @Test func withoutALimitConnectionsAreCountedOnly() {
        let limiter = ConnectionLimiter()
        for _ in 0..<100 { #expect(refusal(limiter, at: 0) == nil) }
        #expect(limiter.count == 100)
        limiter.set(connections: 50, perSecond: 0)
        #expect(refusal(limiter, at: 0) == .tooManyOpen(50))
        #expect(limiter.count == 100)
        for _ in 0..<51 { limiter.give() }
        #expect(refusal(limiter, at: 0) == nil)
        #expect(refusal(limiter, at: 0) == .tooManyOpen(50))
    }

    @Test func aRateAllowsASecondsWorthAtOnceAndThenAnEvenPace() {
        let limiter = ConnectionLimiter()
        limiter.set(connections: 0, perSecond: 4)
        let start = 10 * Self.second
        let burst = (0..<6).map { _ in refusal(limiter, at: start) }
        #expect(burst == [nil, nil, nil, nil, .tooFast(4), .tooFast(4)])
        #expect(refusal(limiter, at: start + Self.second / 4) == nil)
        #expect(refusal(limiter, at: start + Self.second / 4) == .tooFast(4))
        #expect(limiter.count == 5)
        let rested = (0..<5).map { _ in refusal(limiter, at: start + 10 * Self.second) }
        #expect(rested == [nil, nil, nil, nil, .tooFast(4)])
    }

    @Test func aRateOfOneASecondAllowsOne() {
        let limiter = ConnectionLimiter()
        limiter.set(connections: 0, perSecond: 1)
        #expect(refusal(limiter, at: Self.second) == nil)
        #expect(refusal(limiter, at: Self.second + 1) == .tooFast(1))
        #expect(refusal(limiter, at: 2 * Self.second) == nil)
    }
}
