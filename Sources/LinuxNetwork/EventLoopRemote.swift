import CLinux
import Glibc
import Synchronization

/// The door of an event loop for other threads: jobs are run on the loop's thread, in the order they came.
public final class EventLoopRemote: Sendable {
    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var closed = false
    }

    private let state = Mutex(State())
    private let pending = Atomic<Bool>(false)
    private let wake: FileDescriptor
    /// The longest that one round of events, timers and jobs has taken: so long everybody else of the loop waited.
    let longestRound = LongestRound()

    init() throws(SystemError) {
        wake = FileDescriptor(
            owning: try check("eventfd") { eventfd(0, CInt(EFD_CLOEXEC) | CInt(EFD_NONBLOCK)) })
    }

    var wakeDescriptor: CInt { wake.raw }
    var hasJobs: Bool { pending.load(ordering: .acquiring) }

    /// Queues a job and wakes the loop.
    /// - Returns: Whether it will be run: a loop that has ended takes no more.
    @discardableResult
    public func submit(_ job: @escaping @Sendable () -> Void) -> Bool {
        let (accepted, first) = state.withLock { state in
            guard !state.closed else { return (false, false) }
            state.jobs.append(job)
            return (true, state.jobs.count == 1)
        }
        if first {
            pending.store(true, ordering: .releasing)
            var one: UInt64 = 1
            // It can fail only when the counter is full, and then the loop is awake anyway.
            _ = write(wake.raw, &one, 8)
        }
        return accepted
    }

    /// Takes no more jobs and drops those that are waiting.
    public func close() {
        state.withLock { state in
            state.closed = true
            state.jobs = []
        }
    }

    func clearWake() {
        var count: UInt64 = 0
        _ = read(wake.raw, &count, 8)
    }

    func runJobs() {
        guard hasJobs else { return }
        pending.store(false, ordering: .releasing)
        let jobs = state.withLock { state in
            let jobs = state.jobs
            state.jobs = []
            return jobs
        }
        for job in jobs { job() }
    }
}

/// The longest of the rounds since it was last asked for. Written by the loop's thread alone, so without a
/// read-modify-write; one that is asked for at the very moment of a new record may be told of twice.
final class LongestRound: Sendable {
    private let nanoseconds = Atomic<UInt64>(0)

    func note(_ duration: UInt64) {
        if duration > nanoseconds.load(ordering: .relaxed) { nanoseconds.store(duration, ordering: .relaxed) }
    }

    /// Tells and begins anew.
    func take() -> UInt64 { nanoseconds.exchange(0, ordering: .relaxed) }
}
