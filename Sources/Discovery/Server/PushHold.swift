/// Something that is not sent yet, since the client has to take something else before. A value; it ends by itself, since
/// nobody is kept from the state of the mesh by a client that does not answer or ask.
struct PushHold: Sendable {
    enum Reason: Hashable, CaseIterable, Sendable {
        /// The client has the other on its way and has not answered yet.
        case answer
        /// The client has not asked for the other: the requests that a stream begins with come one by one.
        case request

        /// How long it holds at most.
        var patience: Duration {
            switch self {
            case .answer: .seconds(5)
            case .request: .milliseconds(100)
            }
        }
    }

    private var current: (reason: Reason, since: ContinuousClock.Instant)?

    /// - Parameter reason: `nil` when there is none any more.
    /// - Returns: Whether it holds; and, once for each reason, that somebody has to look again when its time is over.
    mutating func look(
        _ reason: Reason?, _ now: ContinuousClock.Instant
    ) -> (holds: Bool, begins: Bool) {
        guard let reason else {
            current = nil
            return (false, false)
        }
        guard let current, current.reason == reason else {
            self.current = (reason, now)
            return (true, true)
        }
        // It stays over for as long as the reason is the same: who does not answer is waited for once.
        return (now - current.since < reason.patience, false)
    }
}
