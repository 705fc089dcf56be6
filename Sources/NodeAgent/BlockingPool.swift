import Glibc
import LinuxNetwork
import Synchronization

/// A few threads for what blocks or changes namespaces, neither of which may happen on Swift's own pool. Whoever is free takes
/// what has waited longest: a long piece of work keeps one thread busy, and nobody waits behind it while others have nothing
/// to do.
final class BlockingPool: Sendable {
    private let queue = Queue()
    private let threads: [UInt]
    /// Asked before each piece of work, on its thread. For tests, in which an agent dies between two of them.
    private let before: @Sendable () throws -> Void

    /// - Parameter name: Of the threads, for those who look at them; short.
    init(threads count: Int, name: String = "agent-work", before: @escaping @Sendable () throws -> Void = {}) throws {
        self.before = before
        let queue = queue
        threads = try (0..<count).map { index in try startThread(name: "\(name)-\(index)") { queue.serve() } }
    }

    func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        let result: Result<Value, any Error> = await withCheckedContinuation { continuation in
            let accepted = queue.add { [before] isRefused in
                continuation.resume(
                    returning: Result {
                        if isRefused { throw Self.ending }
                        try before()
                        return try body()
                    })
            }
            if !accepted { continuation.resume(returning: .failure(Self.ending)) }
        }
        return try result.get()
    }

    /// Waits for what is running; what has not begun is refused.
    func stop() {
        queue.end(threads.count)
        for thread in threads { pthread_join(thread, nil) }
    }

    private static var ending: AgentError { AgentError(.tryAgain, "the agent is ending") }

    /// Work that waits for a thread. Its length is bound by who asks: every pod has one piece of work at a time.
    private final class Queue: Sendable {
        typealias Work = @Sendable (_ isRefused: Bool) -> Void

        private struct State {
            var work: [Work] = []
            var hasEnded = false
        }

        private let state = Mutex(State())
        private let ready = ThreadSignal()

        /// - Returns: Whether it will be called.
        func add(_ work: @escaping Work) -> Bool {
            let accepted = state.withLock { state in
                if !state.hasEnded { state.work.append(work) }
                return !state.hasEnded
            }
            if accepted { ready.signal() }
            return accepted
        }

        /// Works until ``end(_:)``.
        func serve() {
            while true {
                ready.wait()
                let (work, hasEnded) = state.withLock { state in
                    (state.work.isEmpty ? nil : state.work.removeFirst(), state.hasEnded)
                }
                if let work { work(hasEnded) } else if hasEnded { return }
            }
        }

        /// Refuses what waits, and lets so many threads go.
        func end(_ threads: Int) {
            let waiting = state.withLock { state in
                state.hasEnded = true
                defer { state.work = [] }
                return state.work
            }
            for work in waiting { work(true) }
            for _ in 0..<threads { ready.signal() }
        }
    }
}

/// A namespace that several owners hold: it is closed when the last one lets go, so never under a running call.
public final class SharedNamespace: Sendable {
    public let value: NetworkNamespace

    public init(_ value: consuming NetworkNamespace) { self.value = value }

    public var id: NamespaceID { value.id }
}
