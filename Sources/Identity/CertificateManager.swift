import FoundationEssentials
public import Logging
public import Mesh
import Synchronization

/// The certificates of all workloads of a node: fetched once per identity, kept fresh, dropped when forgotten.
///
/// One lock guards all state and is never held across anything that takes time, so the data path's threads look up,
/// prefetch and forget without waiting, and in the order they called.
public final class CertificateManager: WorkloadCertificateSource {
    public struct Settings: Sendable {
        /// Lifetime to ask for.
        public var validity: Duration = .seconds(24 * 3600)
        /// How long ``CertificateManager/certificate(for:priority:)`` waits.
        public var waitLimit: Duration = .seconds(20)
        /// When a call to the authority is given up, should the client not do so itself.
        public var fetchLimit: Duration = .seconds(15)
        /// Calls to the authority at one time.
        public var maximumFetches = 8
        /// Waiting callers over all identities.
        public var maximumWaiters = 16_384
        /// Identities with a certificate or on the way to one.
        public var maximumIdentities = 4096
        public var timing = RenewalTiming()

        public init() {}
    }

    let client: any CertificateAuthorityClient
    let clock: any IdentityClock
    let settings: Settings
    let logger: Logger
    private let chance: @Sendable () -> Double
    let state: Mutex<State>

    /// - Parameters:
    ///   - client: Whom to ask.
    ///   - chance: Numbers in `0..<1` for jitter.
    public init(
        client: any CertificateAuthorityClient, clock: any IdentityClock = SystemIdentityClock(),
        settings: Settings = Settings(), logger: Logger,
        chance: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) }
    ) {
        self.client = client
        self.clock = clock
        self.settings = settings
        self.logger = logger
        self.chance = chance
        state = Mutex(
            State(
                ledger: CertificateLedger(
                    timing: settings.timing, maximumFetches: settings.maximumFetches,
                    maximumIdentities: settings.maximumIdentities)))
    }

    public func cached(_ identity: SPIFFEIdentity) -> WorkloadCertificate? {
        let now = clock.now()
        return state.withLock { $0.ledger.certificate(identity, now: now) }
    }

    /// The certificate at hand, or a new one.
    ///
    /// - Throws: ``IdentityError``: `timedOut` after ``Settings/waitLimit``; the last attempt's error at once while
    ///   that identity backs off; `forgotten`, `shutDown`, `tooManyWaiters`, `tooManyIdentities`.
    ///   `CancellationError` when the calling task is cancelled.
    public func certificate(
        for identity: SPIFFEIdentity, priority: CertificatePriority
    ) async throws -> WorkloadCertificate {
        if let certificate = cached(identity) { return certificate }
        let waiter = state.withLock { $0.newWaiter() }
        // Cancelled before it began to wait, the waiter is remembered; whatever happened, not beyond this call.
        defer { state.withLock { _ = $0.cancelled.remove(waiter) } }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                wait(waiter, for: identity, priority, continuation)
            }
        } onCancel: {
            settle(waiter, .failure(CancellationError()), rememberIfUnknown: true)
        }
    }

    public func prefetch(_ identity: SPIFFEIdentity) {
        let now = clock.now()
        let answer = state.withLock { state -> CertificateLedger.Answer in
            state.isShutDown ? .wait : state.ledger.want(identity, .warmup, now: now)
        }
        if case .failure(let error) = answer { logger.debug("no certificate prefetched: \(error)") }
        proceed()
    }

    public func forget(_ identity: SPIFFEIdentity) {
        let (waiters, task) = state.withLock { state -> ([State.Waiter], Task<Void, Never>?) in
            let attempt = state.ledger.forget(identity)
            return (state.takeWaiters(of: identity), attempt.flatMap { state.fetches[$0]?.call })
        }
        task?.cancel()
        let error = IdentityError(.forgotten, "the certificate of \(identity) is no longer wanted on this node")
        for waiter in waiters { waiter.resume(.failure(error)) }
        proceed()
    }

    public func onRenewal(_ handler: @escaping @Sendable (WorkloadCertificate) -> Void) {
        state.withLock { $0.handlers.append(handler) }
    }

    /// Ends all work: waiting callers get `shutDown`, calls to the authority are cancelled, nothing is renewed any
    /// more. What is cached can still be looked up.
    public func shutDown() {
        let (waiters, tasks) = state.withLock { state -> ([State.Waiter], [Task<Void, Never>]) in
            state.isShutDown = true
            state.handlers = []
            var tasks = state.fetches.values.flatMap { [$0.call, $0.watch] }
            if let timer = state.timer?.task { tasks.append(timer) }
            state.timer = nil
            return (state.takeAllWaiters(), tasks)
        }
        for task in tasks { task.cancel() }
        for waiter in waiters { waiter.resume(.failure(IdentityError(.shutDown, "the certificate manager has ended"))) }
    }

    deinit { shutDown() }
}

// MARK: Waiting

extension CertificateManager {
    private func wait(
        _ number: UInt64, for identity: SPIFFEIdentity, _ priority: CertificatePriority,
        _ continuation: CheckedContinuation<WorkloadCertificate, any Error>
    ) {
        let now = clock.now()
        let waiter = State.Waiter(identity: identity, continuation: continuation)
        let outcome = state.withLock { state -> Result<WorkloadCertificate, any Error>? in
            if state.isShutDown {
                return .failure(IdentityError(.shutDown, "the certificate manager has ended"))
            }
            if state.cancelled.contains(number) { return .failure(CancellationError()) }
            guard state.waiters.count < settings.maximumWaiters else {
                return .failure(
                    IdentityError(
                        .tooManyWaiters, "\(settings.maximumWaiters) callers wait for certificates already"))
            }
            switch state.ledger.want(identity, priority, now: now) {
            case .certificate(let certificate): return .success(certificate)
            case .failure(let error): return .failure(error)
            case .wait:
                state.waiters[number] = waiter
                state.waiters[number]?.limit = Task { [weak self, clock, settings] in
                    do {
                        try await clock.wait(for: settings.waitLimit)
                    } catch {
                        return  // Cancelled: the waiter has its answer.
                    }
                    self?.settle(
                        number,
                        .failure(
                            IdentityError(
                                .timedOut, "no certificate for \(identity) came within \(settings.waitLimit)",
                                hint: "look at the controller's log and at this node's connection to it")))
                }
                return nil
            }
        }
        if let outcome { continuation.resume(with: outcome) }
        proceed()
    }

    private func settle(
        _ number: UInt64, _ outcome: Result<WorkloadCertificate, any Error>, rememberIfUnknown: Bool = false
    ) {
        let waiter = state.withLock { state -> State.Waiter? in
            if let waiter = state.waiters.removeValue(forKey: number) { return waiter }
            if rememberIfUnknown { state.cancelled.insert(number) }
            return nil
        }
        waiter?.resume(outcome)
    }
}

// MARK: Fetching

extension CertificateManager {
    /// Starts what may start and sets the timer for what rests.
    private func proceed() {
        let now = clock.now()
        state.withLock { state in
            guard !state.isShutDown else { return }
            while let attempt = state.ledger.startNext() {
                state.fetches[attempt.number] = State.Fetch(call: call(attempt), watch: watch(attempt))
            }
            let moment = state.ledger.nextMoment
            guard moment != state.timer?.moment else { return }
            state.timer?.task.cancel()
            state.timer = moment.map { State.Timer(moment: $0, task: timer(until: $0, from: now)) }
        }
    }

    private func call(_ attempt: CertificateLedger.Attempt) -> Task<Void, Never> {
        Task {
            let identity = attempt.identity
            do {
                let request = try CertificateSigningRequestMaker.make(for: identity)
                let chain = try await client.sign(csrPEM: request.csrPEM, for: identity, validity: settings.validity)
                let certificate = try await chain.certificate(for: identity, key: request.key, at: clock.now())
                finish(attempt, .success(certificate))
            } catch {
                let failure = IdentityError.wrapping(
                    error, .authorityUnreachable, "no certificate for \(identity) could be had")
                finish(attempt, .failure(failure))
            }
        }
    }

    /// A client that neither answers nor gives up must not keep its place for ever.
    private func watch(_ attempt: CertificateLedger.Attempt) -> Task<Void, Never> {
        Task { [weak self, clock, settings] in
            do {
                try await clock.wait(for: settings.fetchLimit)
            } catch {
                return  // Cancelled: the call has ended.
            }
            let failure = IdentityError(
                .timedOut, "the authority did not answer for \(attempt.identity) within \(settings.fetchLimit)")
            self?.finish(attempt, .failure(failure))
        }
    }

    private func timer(until moment: Date, from now: Date) -> Task<Void, Never> {
        // Calendar time can jump and a machine can sleep, so a long wait is made of short ones.
        let wait = Duration.seconds(min(max(moment.timeIntervalSince(now), 0), 60))
        return Task { [weak self, clock] in
            do {
                try await clock.wait(for: wait)
            } catch {
                return  // Cancelled: another timer has been set.
            }
            self?.timerFired()
        }
    }

    private func timerFired() {
        let now = clock.now()
        state.withLock { state in
            state.timer = nil
            state.ledger.advance(to: now)
        }
        proceed()
    }

    private func finish(_ attempt: CertificateLedger.Attempt, _ outcome: Result<WorkloadCertificate, IdentityError>) {
        let now = clock.now()
        let chance = chance()
        let (fetch, waiters, handlers) = state.withLock { state in
            let fetch = state.fetches.removeValue(forKey: attempt.number)
            guard !state.isShutDown, state.ledger.finish(attempt.number, outcome, now: now, chance: chance) else {
                return (fetch, [State.Waiter](), [State.Handler]())
            }
            return (fetch, state.takeWaiters(of: attempt.identity), state.handlers)
        }
        fetch?.call.cancel()
        fetch?.watch.cancel()
        switch outcome {
        case .success(let certificate):
            logger.debug("new certificate: \(certificate)")
            for handler in handlers { handler(certificate) }
        case .failure(let error):
            // A forgotten identity's cancelled call is no news; neither is the echo of a call given up before.
            if fetch != nil, error.code != .forgotten {
                logger.warning("no certificate for \(attempt.identity): \(error)")
            }
        }
        for waiter in waiters { waiter.resume(outcome.mapError { $0 }) }
        proceed()
    }
}
