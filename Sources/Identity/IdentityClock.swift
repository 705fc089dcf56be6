public import FoundationEssentials

/// The time that certificates live by, passed in so that tests can turn it by hand.
public protocol IdentityClock: Sendable {
    /// Calendar time: what `notBefore` and `notAfter` are compared with.
    func now() -> Date
    /// Returns after `duration` of elapsed time. Throws `CancellationError` when the task is cancelled.
    func wait(for duration: Duration) async throws
}

/// The machine's own clocks.
public struct SystemIdentityClock: IdentityClock {
    public init() {}

    public func now() -> Date { Date() }
    public func wait(for duration: Duration) async throws { try await Task.sleep(for: duration) }
}

extension Duration {
    /// Seconds as a floating point number, for arithmetic with `Date`.
    var timeInterval: TimeInterval {
        TimeInterval(components.seconds) + TimeInterval(components.attoseconds) * 1e-18
    }
}
