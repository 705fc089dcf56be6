import Mesh
import Synchronization

/// A response that has been read, and what it amounts to.
struct ReceivedResponse: Sendable {
    let outcome: DiscoveryExchange.Outcome
    let kind: ResourceDelta.Kind
    let removed: [String]
    /// Of the resources as they came.
    let bytes: Int
}

/// Responses that have been read and wait to be applied. One task reads the next while another applies what is there;
/// and what has come meanwhile is applied together.
///
/// Bounded by the bytes they came in; the stream is not read any further while it is full.
final class ResponseQueue: Sendable {
    static let mostBytes = 16 << 20

    private struct State {
        var waiting: [ReceivedResponse] = []
        var bytes = 0
        var isFinished = false
        /// Who waits for a response, and who for room: one task each.
        var reader: CheckedContinuation<Void, Never>?
        var writer: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// Adds a response, and returns when there is room for another. One task only.
    func add(_ response: ReceivedResponse) async {
        let (reader, isFull) = state.withLock { state in
            state.waiting.append(response)
            state.bytes += response.bytes
            return (state.reader.take(), state.bytes >= Self.mostBytes)
        }
        reader?.resume()
        guard isFull else { return }
        // Whoever takes makes room; it does so also when both tasks are cancelled.
        await withCheckedContinuation { continuation in
            let hasRoom = state.withLock { state in
                if state.bytes < Self.mostBytes { return true }
                state.writer = continuation
                return false
            }
            if hasRoom { continuation.resume() }
        }
    }

    /// Nothing more comes.
    func finish() {
        let reader = state.withLock { state in
            state.isFinished = true
            return state.reader.take()
        }
        reader?.resume()
    }

    /// Everything that waits, as soon as there is something; nothing when it is over. One task only.
    func next() async -> [ReceivedResponse] {
        await withCheckedContinuation { continuation in
            let isThere = state.withLock { state in
                if state.isFinished || !state.waiting.isEmpty { return true }
                state.reader = continuation
                return false
            }
            if isThere { continuation.resume() }
        }
        let (taken, writer) = state.withLock { state in
            let taken = state.waiting
            state.waiting = []
            state.bytes = 0
            return (taken, state.writer.take())
        }
        writer?.resume()
        return taken
    }
}
