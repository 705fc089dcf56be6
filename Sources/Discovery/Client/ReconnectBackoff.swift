/// How long to wait before the next connection: doubled with every failure, half of it by chance.
struct ReconnectBackoff: Sendable {
    let minimum: Duration
    let maximum: Duration
    private var failures = 0

    init(minimum: Duration, maximum: Duration) {
        self.minimum = minimum
        self.maximum = maximum
    }

    /// After a connection that had worked.
    mutating func reset() { failures = 0 }

    mutating func next(using generator: inout some RandomNumberGenerator) -> Duration {
        var full = minimum
        for _ in 0..<failures where full < maximum { full = full * 2 }
        failures = min(failures + 1, 62)
        return min(full, maximum) * Double.random(in: 0.5...1, using: &generator)
    }
}
