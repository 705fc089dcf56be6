import DequeModule
import Synchronization

/// Bounds what is on its way in large responses, over all clients: when many come at once, as after a restart, they are
/// sent everything in turn instead of all of it lying in the buffers of all their connections.
final class PushBudget: Sendable {
    /// Responses up to this size, in bytes, are not counted.
    static let exempt = 64 << 10

    private struct Waiter {
        let ticket: UInt64
        let bytes: Int
        let continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var next: UInt64 = 0
        var held: [UInt64: Int] = [:]
        var used = 0
        var waiters: Deque<Waiter> = []
    }

    private let state = Mutex(State())
    private let limit: Int
    private let patience: TimeoutQueue

    /// - Parameters:
    ///   - limit: In bytes. A single response may be larger.
    ///   - patience: How long a client that does not answer counts: then others are served beside it.
    init(limit: Int = 64 << 20, patience: Duration = .seconds(10)) {
        self.limit = limit
        self.patience = TimeoutQueue(after: patience)
    }

    /// Waits until a response may be sent, the first who asks first.
    ///
    /// - Returns: What to hand to ``release(_:)`` when the client has answered or is gone; `nil` for a small one.
    /// - Throws: `CancellationError`.
    func admit(_ bytes: Int) async throws -> UInt64? {
        guard bytes > Self.exempt else { return nil }
        let ticket = state.withLock { state in
            state.next += 1
            return state.next
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                state.withLock { $0.waiters.append(Waiter(ticket: ticket, bytes: bytes, continuation: continuation)) }
                advance()
                // Cancelled before it stood in the queue, nobody else would take it out.
                if Task.isCancelled { giveUp(ticket) }
            }
        } onCancel: {
            giveUp(ticket)
        }
        patience.add { [weak self] in self?.release(ticket) }
        return ticket
    }

    /// To release what is released is nothing.
    func release(_ ticket: UInt64) {
        state.withLock { state in
            if let bytes = state.held.removeValue(forKey: ticket) { state.used -= bytes }
        }
        advance()
    }

    private func giveUp(_ ticket: UInt64) {
        let waiter = state.withLock { state in
            state.waiters.firstIndex { $0.ticket == ticket }.map { state.waiters.remove(at: $0) }
        }
        waiter?.continuation.resume(throwing: CancellationError())
        release(ticket)
    }

    private func advance() {
        let admitted = state.withLock { state in
            var admitted: [Waiter] = []
            while let waiter = state.waiters.first, state.used == 0 || state.used + waiter.bytes <= limit {
                state.waiters.removeFirst()
                state.held[waiter.ticket] = waiter.bytes
                state.used += waiter.bytes
                admitted.append(waiter)
            }
            return admitted
        }
        for waiter in admitted { waiter.continuation.resume() }
    }

    /// Bytes that count now, and how many wait.
    var load: (used: Int, waiting: Int) { state.withLock { ($0.used, $0.waiters.count) } }
}
