import Glibc

/// Lets a thread that has nothing else to do wait for another one (a POSIX semaphore). Never wait on a thread of
/// Swift's concurrency pool. Unchecked, because a semaphore is made for several threads; its memory stays in place for
/// its life.
public final class ThreadSignal: @unchecked Sendable {
    private let pointer = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    public init() { sem_init(pointer, 0, 0) }

    deinit {
        sem_destroy(pointer)
        pointer.deallocate()
    }

    /// Lets one waiter go, now or when it comes.
    public func signal() { sem_post(pointer) }

    public func wait() { while sem_wait(pointer) != 0 && errno == EINTR {} }

    /// - Returns: Whether the signal came in time.
    public func wait(seconds: Int) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_sec += seconds
        while sem_timedwait(pointer, &deadline) != 0 {
            if errno != EINTR { return false }
        }
        return true
    }
}
