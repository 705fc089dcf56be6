/// Pauses between attempts at something that fails: each up to twice as long as the one before, half of it by chance, so
/// that many who lost the same peer do not come back at once.
public struct Backoff: Hashable, Sendable {
    public let shortest: Duration
    public let longest: Duration
    private var pause: Duration

    /// - Parameters:
    ///   - shortest: The first pause at most.
    ///   - longest: What no pause exceeds, unless it is asked for.
    public init(shortest: Duration = .milliseconds(100), longest: Duration = .seconds(30)) {
        self.shortest = shortest
        self.longest = longest
        pause = min(shortest, longest)
    }

    /// The pause before the next attempt.
    /// - Parameter atLeast: What the other side asked for.
    public mutating func next(atLeast: Duration = .zero) -> Duration {
        defer { pause = min(pause * 2, longest) }
        return max(pause * Double.random(in: 0.5...1), atLeast)
    }

    /// After an attempt that worked.
    public mutating func reset() { pause = min(shortest, longest) }
}
