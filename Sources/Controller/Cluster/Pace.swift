/// How many requests may go out: so many at once, so many a second in the long run. A value.
struct Pace: Sendable {
    let burst: Double
    let rate: Double
    private var tokens: Double
    private var last: ContinuousClock.Instant?

    init(burst: Double = 50, rate: Double = 20) {
        self.burst = burst
        self.rate = rate
        tokens = burst
    }

    /// Takes one.
    /// - Returns: How long to wait before it is used.
    mutating func take(at now: ContinuousClock.Instant) -> Duration {
        if let last { tokens = min(burst, tokens + rate * max(0, (now - last) / .seconds(1))) }
        last = now
        tokens -= 1
        return tokens >= 0 ? .zero : .seconds(-tokens / rate)
    }
}
