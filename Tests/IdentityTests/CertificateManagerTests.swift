import Foundation
import Logging
import Mesh
import Synchronization
import Testing

@testable import Identity

/// The manager with an authority that answers when the test says so, under a clock that the test turns.
@Suite struct CertificateManagerTests {
    let clock = ManualClock()
    let authority: FakeAuthority
    let manager: CertificateManager

    init() throws {
        authority = try FakeAuthority(clock: clock)
        manager = Self.manager(authority, clock)
    }

    private static func manager(
        _ authority: FakeAuthority, _ clock: ManualClock,
        _ adjust: (inout CertificateManager.Settings) -> Void = { _ in }
    ) -> CertificateManager {
        var settings = CertificateManager.Settings()
        adjust(&settings)
        return CertificateManager(
            client: authority, clock: clock, settings: settings,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }), chance: { 0.5 })
    }

    private func ask(
        _ identity: SPIFFEIdentity, _ manager: CertificateManager? = nil, priority: CertificatePriority = .realTime
    ) -> Task<WorkloadCertificate, any Error> {
        let manager = manager ?? self.manager
        return Task { try await manager.certificate(for: identity, priority: priority) }
    }

    private func code(_ task: Task<WorkloadCertificate, any Error>) async -> IdentityError.Code? {
        do {
            _ = try await task.value
            return nil
        } catch {
            return (error as? IdentityError)?.code
        }
    }

    @Test func allWaitForOneFetchAndThenItIsCached() async throws {
        let identity = workload("client")
        #expect(manager.cached(identity) == nil)
        let asking = (0..<20).map { _ in ask(identity) }
        await eventually("the call") { authority.pending == 1 }
        authority.release()
        var serials: Set<String> = []
        for task in asking { serials.insert(try await task.value.serialNumber) }
        #expect(serials.count == 1)
        #expect(authority.identities == [identity])
        #expect(manager.cached(identity)?.serialNumber == serials.first)
        #expect(try await manager.certificate(for: identity, priority: .realTime).serialNumber == serials.first)
        #expect(authority.identities.count == 1)
    }

    @Test func eightAtATime() async throws {
        for number in 0..<30 { manager.prefetch(workload("w\(number)")) }
        await eventually("eight calls") { authority.pending == 8 }
        for _ in 0..<30 {
            await eventually("an open call") { authority.pending > 0 }
            authority.release()
        }
        await eventually("all certificates") { (0..<30).allSatisfy { manager.cached(workload("w\($0)")) != nil } }
        #expect(authority.mostRunning == 8)
        #expect(authority.identities.count == 30)
    }

    @Test func whatAConnectionWaitsForComesFirst() async throws {
        let manager = Self.manager(authority, clock) { $0.maximumFetches = 1 }
        manager.prefetch(workload("running"))
        await eventually("the first call") { authority.pending == 1 }
        manager.prefetch(workload("warm"))
        manager.prefetch(workload("raised"))
        let urgent = ask(workload("raised"), manager)
        await eventually("both queued") { manager.statuses.count == 3 && clock.sleepers >= 2 }
        for _ in 0..<3 {
            await eventually("an open call") { authority.pending == 1 }
            authority.release()
        }
        _ = try await urgent.value
        await eventually("the last one") { manager.cached(workload("warm")) != nil }
        #expect(authority.identities.map(\.serviceAccount) == ["running", "raised", "warm"])
    }

    @Test("15. renewed at half life, and the data path is told")
    func renewsAtHalfLifeAndTellsTheDataPath() async throws {
        let identity = workload("client")
        authority.answer(with: nil)
        let told = Mutex<[String]>([])
        manager.onRenewal { certificate in told.withLock { $0.append(certificate.serialNumber) } }
        let first = try await manager.certificate(for: identity, priority: .realTime)
        #expect(told.withLock { $0 } == [first.serialNumber])

        // An hour from now minus two minutes before: half of 3720 s is over 1740 s from now.
        for _ in 0..<28 {
            await eventually("the timer") { clock.sleepers == 1 }
            clock.advance(by: 60)
        }
        await eventually("the timer") { clock.sleepers == 1 }
        #expect(authority.identities.count == 1)
        #expect(manager.cached(identity)?.serialNumber == first.serialNumber)
        clock.advance(by: 60)
        await eventually("the renewal") { told.withLock { $0.count } == 2 }
        let second = try #require(manager.cached(identity))
        #expect(second.serialNumber != first.serialNumber)
        #expect(second.privateKeyDER != first.privateKeyDER)
        #expect(told.withLock { $0 } == [first.serialNumber, second.serialNumber])
    }

    @Test("15. a valid one is kept when its renewal fails, and not beyond its end")
    func keepsAValidCertificateWhenRenewalFailsButNotBeyondItsEnd() async throws {
        let identity = workload("client")
        authority.answer(with: nil)
        let first = try await manager.certificate(for: identity, priority: .realTime)
        authority.answer(with: IdentityError(.authorityUnreachable, "down"))
        while clock.now() < first.notAfter - 60 {
            await atRest()
            clock.advance(by: 30)
            #expect(manager.cached(identity)?.serialNumber == first.serialNumber)
        }
        #expect(authority.identities.count > 5)
        #expect(try await manager.certificate(for: identity, priority: .realTime).serialNumber == first.serialNumber)
        #expect(manager.statuses.first?.state == .available)
        #expect(manager.statuses.first?.error?.code == .authorityUnreachable)

        clock.advance(by: first.notAfter.timeIntervalSince(clock.now()) + 1)
        #expect(manager.cached(identity) == nil)
        await eventually("unavailable") { manager.statuses.first?.state == .unavailable }
        authority.answer(with: nil)
        for _ in 0..<20 where manager.cached(identity) == nil {
            await atRest()
            clock.advance(by: 60)
        }
        await eventually("a new certificate") { manager.cached(identity) != nil }
    }

    /// Nothing is asked for, and the next attempt has its timer: time may move without running an attempt out of its own.
    private func atRest() async {
        await eventually("the timer") { clock.sleepers == 1 && manager.state.withLock { $0.fetches.isEmpty } }
    }

    @Test func afterAFailureTheErrorComesAtOnceUntilTheNextAttempt() async throws {
        let identity = workload("client")
        let asking = ask(identity)
        await eventually("the call") { authority.pending == 1 }
        authority.release(IdentityError(.authorityRefused, "not on this node"))
        #expect(await code(asking) == .authorityRefused)
        #expect(await code(ask(identity)) == .authorityRefused)
        #expect(authority.identities.count == 1)

        authority.answer(with: nil)
        await eventually("the timer") { clock.sleepers == 1 }
        clock.advance(by: 1)
        await eventually("the second attempt") { manager.cached(identity) != nil }
        #expect(authority.identities.count == 2)
    }

    @Test func oneIdentitysFailureDoesNotHoldUpAnother() async throws {
        let bad = ask(workload("bad"))
        await eventually("the call") { authority.pending == 1 }
        authority.release(IdentityError(.authorityRefused, "no"))
        #expect(await code(bad) == .authorityRefused)
        let good = ask(workload("good"))
        await eventually("the call") { authority.pending == 1 }
        authority.release()
        #expect(try await good.value.identity == workload("good"))
    }

    @Test func waitersAreGivenUpAfterTheirLimit() async throws {
        let asking = ask(workload("client"))
        await eventually("call, watch and limit") { authority.pending == 1 && clock.sleepers == 2 }
        // The watch gives the call up first, so it is stopped from doing so by an answer that comes in between.
        let manager = Self.manager(authority, clock) { $0.waitLimit = .seconds(5) }
        let second = ask(workload("other"), manager)
        await eventually("the second") { authority.pending == 2 && clock.sleepers == 4 }
        clock.advance(by: 5)
        #expect(await code(second) == .timedOut)
        authority.release()
        authority.release()
        #expect(try await asking.value.identity == workload("client"))
        // Who comes later still gets what arrived meanwhile.
        await eventually("the late one") { manager.cached(workload("other")) != nil }
    }

    @Test func aCallThatNeverEndsLosesItsPlace() async throws {
        let manager = Self.manager(authority, clock) { $0.maximumFetches = 1 }
        let stuck = ask(workload("stuck"), manager)
        await eventually("the call") { authority.pending == 1 && clock.sleepers == 2 }
        let next = ask(workload("next"), manager)
        await eventually("queued") { clock.sleepers == 3 }
        clock.advance(by: 15)
        #expect(await code(stuck) == .timedOut)
        await eventually("the next call") { authority.pending == 2 }
        authority.release()  // The stuck one's answer, too late: it changes nothing.
        authority.release()
        #expect(try await next.value.identity == workload("next"))
        #expect(manager.cached(workload("stuck")) == nil)
    }

    @Test func forgettingEndsEverythingAboutAnIdentity() async throws {
        let identity = workload("client")
        let asking = ask(identity)
        await eventually("the call") { authority.pending == 1 }
        manager.forget(identity)
        #expect(await code(asking) == .forgotten)
        authority.release()
        await eventually("no sleeper") { clock.sleepers == 0 }
        #expect(manager.cached(identity) == nil)
        #expect(manager.statuses.isEmpty)

        authority.answer(with: nil)
        _ = try await manager.certificate(for: identity, priority: .realTime)
        manager.forget(identity)
        #expect(manager.cached(identity) == nil)
        await eventually("no timer") { clock.sleepers == 0 }
        manager.forget(workload("never seen"))
    }

    @Test func aCancelledCallerLeavesTheFetchToOthers() async throws {
        let identity = workload("client")
        let first = ask(identity)
        let second = ask(identity)
        await eventually("both wait") { authority.pending == 1 && clock.sleepers == 3 }
        first.cancel()
        await #expect(throws: CancellationError.self) { try await first.value }
        authority.release()
        #expect(try await second.value.identity == identity)

        let cancelled = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await manager.certificate(for: workload("other"), priority: .realTime)
        }
        await #expect(throws: CancellationError.self) { try await cancelled.value }
    }

    @Test func waitersAreLimited() async throws {
        let manager = Self.manager(authority, clock) { $0.maximumWaiters = 2 }
        let first = ask(workload("a"), manager)
        let second = ask(workload("b"), manager)
        await eventually("both wait") { authority.pending == 2 && clock.sleepers == 4 }
        #expect(await code(ask(workload("c"), manager)) == .tooManyWaiters)
        authority.release()
        authority.release()
        _ = try await (first.value, second.value)
    }

    @Test func theEndReachesEverybody() async throws {
        let asking = ask(workload("client"))
        await eventually("the call") { authority.pending == 1 }
        manager.shutDown()
        #expect(await code(asking) == .shutDown)
        #expect(await code(ask(workload("later"))) == .shutDown)
        authority.release()
        await eventually("no sleeper") { clock.sleepers == 0 }
    }

    @Test func anAnswerForAnotherIsNotUsed() async throws {
        let wrong = CrossedAuthority(authority)
        authority.answer(with: nil)
        let manager = CertificateManager(
            client: wrong, clock: clock, logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        #expect(await code(ask(workload("client"), manager)) == .identityMismatch)
        #expect(manager.cached(workload("client")) == nil)
        manager.shutDown()
    }

    @Test func descriptionsShowNoKey() async throws {
        authority.answer(with: nil)
        let certificate = try await manager.certificate(for: workload("client"), priority: .realTime)
        var dumped = ""
        dump(certificate, to: &dumped)
        for text in ["\(certificate)", String(reflecting: certificate), dumped] {
            #expect(!text.contains("privateKey"))
            #expect(text.count < 1000)
        }
    }
}

/// Signs for somebody else than it was asked for.
private struct CrossedAuthority: CertificateAuthorityClient {
    let authority: FakeAuthority

    init(_ authority: FakeAuthority) { self.authority = authority }

    func sign(csrPEM: String, for identity: SPIFFEIdentity, validity: Duration) async throws -> IssuedChain {
        try await authority.sign(csrPEM: csrPEM, for: workload("somebody-else"), validity: validity)
    }
}
