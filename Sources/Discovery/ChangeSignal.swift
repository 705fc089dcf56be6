import Synchronization

/// Lets tasks wait for a condition that others bring about.
public final class ChangeSignal: Sendable {
    private struct State {
        var next: UInt64 = 0
        var waiters: [UInt64: AsyncStream<Void>.Continuation] = [:]
    }

    private let state = Mutex(State())

    public init() {}

    /// Something changed that conditions may depend on. Waiters look again.
    public func notify() {
        for waiter in state.withLock({ Array($0.waiters.values) }) { waiter.yield() }
    }

    /// Returns when the condition holds, or when the time is over.
    ///
    /// - Parameter condition: Looked at first and after every ``notify()``.
    /// - Returns: Whether it held when last looked at.
    public func wait(timeout: Duration, until condition: @escaping @Sendable () -> Bool) async -> Bool {
        let (changes, waiter) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let id = state.withLock { state in
            state.next += 1
            state.waiters[state.next] = waiter
            return state.next
        }
        defer { state.withLock { _ = $0.waiters.removeValue(forKey: id) } }
        // After the registration, so that no change falls in between.
        if condition() { return true }
        return await withTaskGroup(of: Bool.self) { group in
            group.addTask {
                for await _ in changes where condition() { return true }
                return condition()
            }
            group.addTask {
                // Cancelled when the wait is over.
                try? await ContinuousClock().sleep(for: timeout)
                return false
            }
            let held = await group.next() ?? false
            group.cancelAll()
            return held
        }
    }

    /// How many are waiting.
    public var waiterCount: Int { state.withLock { $0.waiters.count } }
}
