import Glibc

/// Nanoseconds that only go forward (CLOCK_MONOTONIC), for timeouts and durations.
public enum MonotonicClock {
    @inlinable
    public static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
