import DequeModule
import Synchronization

/// Tells of what has waited long enough. Everything waits equally long here, so one queue in the order of coming, and one
/// task while there is anything in it, do for any number.
final class TimeoutQueue: Sendable {
    private struct State {
        var waiting: Deque<(due: ContinuousClock.Instant, tell: @Sendable () -> Void)> = []
        var isWatched = false
    }

    private let state = Mutex(State())
    private let patience: Duration

    init(after patience: Duration) { self.patience = patience }

    /// - Parameter tell: Called once the time is over, also when there is nothing to tell any more: that is for it to know.
    func add(_ tell: @escaping @Sendable () -> Void) {
        let starts = state.withLock { state in
            state.waiting.append((ContinuousClock().now + patience, tell))
            defer { state.isWatched = true }
            return !state.isWatched
        }
        if starts { Task { await watch() } }
    }

    private func watch() async {
        while let due = next() {
            // Not cancelled by anybody.
            try? await ContinuousClock().sleep(until: due)
            for tell in over() { tell() }
        }
    }

    private func next() -> ContinuousClock.Instant? {
        state.withLock { state in
            state.isWatched = !state.waiting.isEmpty
            return state.waiting.first?.due
        }
    }

    private func over() -> [@Sendable () -> Void] {
        let now = ContinuousClock().now
        return state.withLock { state in
            var over: [@Sendable () -> Void] = []
            while let first = state.waiting.first, first.due <= now {
                state.waiting.removeFirst()
                over.append(first.tell)
            }
            return over
        }
    }

    /// How many have not been told.
    var count: Int { state.withLock { $0.waiting.count } }
}
