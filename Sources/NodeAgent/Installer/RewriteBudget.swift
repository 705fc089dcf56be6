/// How often what another writer undoes is done again: a few times at once, then seldom. Two writers that each insist
/// would otherwise rewrite a file for ever. A value; time is passed in.
struct RewriteBudget: Sendable {
    typealias Instant = ContinuousClock.Instant

    enum Answer: Equatable, Sendable {
        case go
        /// The budget is used up with this question: whoever asks should tell an operator.
        case conflict(until: Instant)
        /// As before.
        case wait(until: Instant)
    }

    let limit: Int
    let window: Duration
    let firstTruce: Duration
    let longestTruce: Duration

    private var writes: [Instant] = []
    private var truceEnd: Instant?
    private var truce: Duration

    init(limit: Int, window: Duration, truce: Duration, longestTruce: Duration) {
        self.limit = limit
        self.window = window
        firstTruce = truce
        self.longestTruce = longestTruce
        self.truce = truce
    }

    /// Asks for one write.
    mutating func ask(_ now: Instant) -> Answer {
        if let end = truceEnd {
            if now < end { return .wait(until: end) }
            truceEnd = nil
            // Whoever fought is met once, not as often again.
            writes = [Instant](repeating: now, count: limit - 1)
        }
        writes = writes.filter { now - $0 <= window }
        if writes.isEmpty { truce = firstTruce }
        guard writes.count >= limit else {
            writes.append(now)
            return .go
        }
        let end = now + truce
        truceEnd = end
        truce = min(truce * 2, longestTruce)
        return .conflict(until: end)
    }
}
