import FoundationEssentials

/// When a certificate is renewed and when a failed attempt is repeated. Pure: chance is passed in.
public struct RenewalTiming: Sendable {
    /// Wait after the first failure; it doubles with each further one.
    public var firstBackOff: Duration = .seconds(1)
    /// No wait is longer, its jitter included.
    public var maximumBackOff: Duration = .seconds(150)
    /// Share by which a back-off is lengthened or shortened at most.
    public var backOffJitter = 0.2
    /// Share of a certificate's life after which it is renewed.
    public var renewalPoint = 0.5
    /// Share of the life by which that moment is moved at most, so that what started together drifts apart.
    public var renewalJitter = 0.05

    public init() {}

    /// The wait after so many failures in a row; `chance` is in `0..<1`.
    func backOff(failures: Int, chance: Double) -> TimeInterval {
        let ceiling = maximumBackOff.timeInterval / (1 + backOffJitter)
        let doubled = firstBackOff.timeInterval * Double(1 << (min(max(failures, 1), 32) - 1))
        let plain = min(doubled, ceiling)
        return plain * (1 - backOffJitter + 2 * backOffJitter * chance)
    }

    /// The moment to renew a certificate that came at `now`; `chance` is in `0..<1`.
    ///
    /// An authority backdates certificates, so half of a very short life may be over on arrival; then half of what is
    /// left counts. Renewals are never closer together than a second.
    func renewal(of certificate: WorkloadCertificate, now: Date, chance: Double) -> Date {
        let point = renewalPoint - renewalJitter + 2 * renewalJitter * chance
        let life = certificate.notAfter.timeIntervalSince(certificate.notBefore)
        var moment = certificate.notBefore + life * point
        if moment <= now { moment = now + certificate.notAfter.timeIntervalSince(now) * point }
        return max(moment, now + 1)
    }
}
