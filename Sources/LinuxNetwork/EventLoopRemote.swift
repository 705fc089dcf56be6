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
