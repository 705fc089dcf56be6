/// Pauses that double up to a limit, each with jitter over its upper half. A value; what has no network is tested as such.
public struct Backoff: Hashable, Sendable {
    public let shortest: Duration
    public let longest: Duration
    private var pause: Duration

    public init(shortest: Duration = .milliseconds(100), longest: Duration = .seconds(30)) {
        self.shortest = shortest
        self.longest = longest
        pause = shortest
    }

    /// - Parameter atLeast: What the other side asked for.
    public mutating func next(atLeast: Duration = .zero) -> Duration {
        defer { pause = min(pause * 2, longest) }
        return max(pause * Double.random(in: 0.5...1), atLeast)
    }

    public mutating func reset() { pause = shortest }
}
