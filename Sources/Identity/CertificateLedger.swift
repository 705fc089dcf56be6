import FoundationEssentials
import Mesh

/// Which certificates are wanted, queued, being fetched, at hand and due: the manager's state machine, as a value.
///
/// It starts nothing itself. ``startNext()`` says what to fetch, ``finish(_:_:now:chance:)`` takes the outcome, and
/// ``nextMoment`` says when ``advance(to:)`` has something to do.
struct CertificateLedger {
    enum Phase: Equatable {
        case queued(CertificatePriority, order: UInt64)
        case fetching(attempt: UInt64)
        /// Nothing to do before this moment: the certificate is fresh, or the last attempt failed.
        case resting(until: Date)
    }

    struct Entry {
        var phase: Phase
        var certificate: WorkloadCertificate?
        /// Of the last attempt, if that failed.
        var failure: IdentityError?
        var failures = 0
    }

    enum Answer {
        case certificate(WorkloadCertificate)
        case failure(IdentityError)
        case wait
    }

    struct Attempt: Equatable {
        let number: UInt64
        let identity: SPIFFEIdentity
    }

    let timing: RenewalTiming
    let maximumFetches: Int
    let maximumIdentities: Int

    private(set) var entries: [SPIFFEIdentity: Entry] = [:]
    /// Calls to the authority that have not ended, those of forgotten identities included.
    private(set) var running: [UInt64: SPIFFEIdentity] = [:]
    private var lastNumber: UInt64 = 0

    init(timing: RenewalTiming, maximumFetches: Int, maximumIdentities: Int) {
        self.timing = timing
        self.maximumFetches = maximumFetches
        self.maximumIdentities = maximumIdentities
    }

    func certificate(_ identity: SPIFFEIdentity, now: Date) -> WorkloadCertificate? {
        guard let certificate = entries[identity]?.certificate, certificate.isValid(at: now) else { return nil }
        return certificate
    }

    /// Somebody wants a certificate: it is at hand, or its last attempt has failed and rests, or it has to be waited
    /// for, in the queue at this priority or a higher one that it has already.
    mutating func want(_ identity: SPIFFEIdentity, _ priority: CertificatePriority, now: Date) -> Answer {
        guard var entry = entries[identity] else {
            guard entries.count < maximumIdentities else {
                return .failure(
                    IdentityError(
                        .tooManyIdentities, "there are \(maximumIdentities) identities already; \(identity) is refused")
                )
            }
            entries[identity] = Entry(phase: .queued(priority, order: nextNumber()))
            return .wait
        }
        if let certificate = entry.certificate, certificate.isValid(at: now) { return .certificate(certificate) }
        switch entry.phase {
        case .queued(let queued, let order):
            entry.phase = .queued(max(queued, priority), order: order)
        case .fetching:
            break
        case .resting(let until):
            if let failure = entry.failure, now < until { return .failure(failure) }
            entry.phase = .queued(priority, order: nextNumber())
        }
        entries[identity] = entry
        return .wait
    }

    /// The next attempt to start, the most urgent and then the oldest, while fewer than the allowed number run.
    mutating func startNext() -> Attempt? {
        guard running.count < maximumFetches else { return nil }
        var best: (identity: SPIFFEIdentity, priority: CertificatePriority, order: UInt64)?
        for (identity, entry) in entries {
            guard case .queued(let priority, let order) = entry.phase else { continue }
            if let found = best, (found.priority, order) >= (priority, found.order) { continue }
            best = (identity, priority, order)
        }
        guard let best else { return nil }
        let attempt = Attempt(number: nextNumber(), identity: best.identity)
        entries[best.identity]?.phase = .fetching(attempt: attempt.number)
        running[attempt.number] = best.identity
        return attempt
    }

    /// An attempt has ended.
    ///
    /// - Returns: Whether its outcome counts; it does not when the identity was forgotten meanwhile.
    mutating func finish(
        _ attempt: UInt64, _ outcome: Result<WorkloadCertificate, IdentityError>, now: Date, chance: Double
    ) -> Bool {
        guard let identity = running.removeValue(forKey: attempt), var entry = entries[identity],
            entry.phase == .fetching(attempt: attempt)
        else { return false }
        switch outcome {
        case .success(let certificate):
            entry.certificate = certificate
            entry.failure = nil
            entry.failures = 0
            entry.phase = .resting(until: timing.renewal(of: certificate, now: now, chance: chance))
        case .failure(let failure):
            entry.failure = failure
            entry.failures += 1
            var until = now + timing.backOff(failures: entry.failures, chance: chance)
            if let expiry = entry.certificate?.notAfter, now < expiry { until = min(until, expiry) }
            entry.phase = .resting(until: until)
        }
        entries[identity] = entry
        return true
    }

    /// Queues what is due and lets go of certificates that have expired.
    mutating func advance(to now: Date) {
        for (identity, var entry) in entries {
            var changed = false
            if let certificate = entry.certificate, certificate.notAfter <= now {
                entry.certificate = nil
                changed = true
            }
            if case .resting(let until) = entry.phase, until <= now {
                let priority = entry.certificate == nil ? CertificatePriority.warmup : .background
                entry.phase = .queued(priority, order: nextNumber())
                changed = true
            }
            if changed { entries[identity] = entry }
        }
    }

    /// The earliest moment at which something is due; `nil` when nothing rests.
    var nextMoment: Date? {
        var moment: Date?
        for entry in entries.values {
            if case .resting(let until) = entry.phase { moment = min(moment ?? until, until) }
        }
        return moment
    }

    /// Drops everything about an identity. The attempt that runs for it, if any, keeps its place until it ends.
    ///
    /// - Returns: The number of that attempt.
    mutating func forget(_ identity: SPIFFEIdentity) -> UInt64? {
        guard let entry = entries.removeValue(forKey: identity), case .fetching(let attempt) = entry.phase else {
            return nil
        }
        return attempt
    }

    private mutating func nextNumber() -> UInt64 {
        lastNumber += 1
        return lastNumber
    }
}
