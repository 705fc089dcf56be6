import Foundation
import Identity
import Synchronization

/// Time that stands still until a test moves it.
final class ManualClock: IdentityClock {
    private struct Sleeper {
        let wake: Date
        let continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var now: Date
        var sleepers: [UInt64: Sleeper] = [:]
        var cancelled: Set<UInt64> = []
        var last: UInt64 = 0
    }

    private let state: Mutex<State>

    init(_ now: Date = Date(timeIntervalSince1970: 1_800_000_000)) { state = Mutex(State(now: now)) }

    func now() -> Date { state.withLock { $0.now } }

    /// How many tasks sleep at this moment, and until when the earliest.
    var sleepers: Int { state.withLock { $0.sleepers.count } }

    func wait(for duration: Duration) async throws {
        let seconds = Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
        let number = state.withLock { state in
            state.last += 1
            return state.last
        }
        defer { state.withLock { _ = $0.cancelled.remove(number) } }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let outcome = state.withLock { state -> Result<Void, any Error>? in
                    if state.cancelled.contains(number) { return .failure(CancellationError()) }
                    if seconds <= 0 { return .success(()) }
                    state.sleepers[number] = Sleeper(wake: state.now + seconds, continuation: continuation)
                    return nil
                }
                if let outcome { continuation.resume(with: outcome) }
            }
        } onCancel: {
            let sleeper = state.withLock { state in
                state.cancelled.insert(number)
                return state.sleepers.removeValue(forKey: number)
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
    }

    /// Moves time forward and wakes whoever has slept long enough.
    func advance(by seconds: Double) {
        let woken = state.withLock { state -> [Sleeper] in
            state.now += seconds
            let due = state.sleepers.filter { $0.value.wake <= state.now }
            for number in due.keys { state.sleepers.removeValue(forKey: number) }
            return due.values.sorted { $0.wake < $1.wake }
        }
        for sleeper in woken { sleeper.continuation.resume() }
    }
}
