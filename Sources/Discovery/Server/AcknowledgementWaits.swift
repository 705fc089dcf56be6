import Synchronization

/// Who waits until which clients have acknowledged what. An acknowledgement is looked at for its own client alone: with
/// thousands of them, to look through all at each would be work by the square of their number.
final class AcknowledgementWaits: Sendable {
    private struct Wait {
        let mark: DiscoveryServer.Mark
        /// Those that are waited for.
        var clients: [UInt64: DiscoveryClientEntry]
    }

    private struct State {
        var next: UInt64 = 0
        var waits: [UInt64: Wait] = [:]
    }

    private let state = Mutex(State())
    private let over = ChangeSignal()

    /// - Returns: The names of clients that had not acknowledged the mark when the time was over; empty when all have.
    func wait(for mark: DiscoveryServer.Mark, of clients: [DiscoveryClientEntry], timeout: Duration) async -> [String] {
        let id = state.withLock { state in
            state.next += 1
            state.waits[state.next] = Wait(
                mark: mark, clients: Dictionary(uniqueKeysWithValues: clients.map { ($0.id, $0) }))
            return state.next
        }
        defer { state.withLock { $0.waits[id] = nil } }
        // After the registration, so that no acknowledgement falls in between.
        for client in clients { heard(client) }
        _ = await over.wait(timeout: timeout) { self.left(id).isEmpty }
        return left(id).values.map(\.name).sorted()
    }

    /// A client has acknowledged something.
    func heard(_ client: DiscoveryClientEntry) { strike(client.id) { client.has($0) } }

    /// A client is gone; nobody waits for it any more.
    func gone(_ client: DiscoveryClientEntry) { strike(client.id) { _ in true } }

    private func strike(_ client: UInt64, where isDone: (DiscoveryServer.Mark) -> Bool) {
        let isOver = state.withLock { state in
            var isOver = false
            // By id, since a copy of a wait would make each change of it one of all its clients.
            for id in Array(state.waits.keys) {
                guard state.waits[id]?.clients[client] != nil, let mark = state.waits[id]?.mark, isDone(mark) else {
                    continue
                }
                state.waits[id]?.clients[client] = nil
                if state.waits[id]?.clients.isEmpty == true { isOver = true }
            }
            return isOver
        }
        if isOver { over.notify() }
    }

    private func left(_ id: UInt64) -> [UInt64: DiscoveryClientEntry] {
        state.withLock { $0.waits[id]?.clients ?? [:] }
    }
}
