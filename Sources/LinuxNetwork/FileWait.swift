import CLinux
import Glibc

/// Waits for what other programs do in folders. The kernel tells of it (inotify), so that nobody who waits for a socket
/// or a file of another process looks again and again, or too late.
public enum FileWait {
    /// How long a change may go unseen in a folder that is not there yet or cannot be watched, in milliseconds.
    private static let longestPause = 50

    /// Waits until the condition holds: asks at once, and again when something happens in one of the folders.
    ///
    /// A listener's file is there a moment before it listens, so after each sign of change the condition is asked a few
    /// times more, at growing distances.
    ///
    /// - Parameters:
    ///   - folders: not recursive. One that is not there, or must not be read, is looked at every 50 ms instead.
    ///   - milliseconds: the longest wait.
    /// - Returns: Whether the condition held in the end.
    public static func until<Failure: Error>(
        in folders: [String], milliseconds: Int, _ condition: () throws(Failure) -> Bool
    ) throws(Failure) -> Bool {
        if try condition() { return true }
        let deadline = MonotonicClock.now + UInt64(Swift.max(milliseconds, 0)) * 1_000_000
        let queue = inotify_init1(CInt(IN_NONBLOCK | IN_CLOEXEC))
        // Without a queue (too many are in use) the pauses alone have to do.
        let changes = queue >= 0 ? FileDescriptor(owning: queue) : nil
        defer { withExtendedLifetime(changes) {} }
        for folder in folders where queue >= 0 {
            // A folder that cannot be watched is looked at now and then.
            _ = inotify_add_watch(
                queue, folder, UInt32(IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM))
        }
        var pause = 1
        while true {
            // After the watch is there: nothing can happen unseen any more.
            if try condition() { return true }
            let now = MonotonicClock.now
            guard now < deadline else { return false }
            let left = Int((deadline - now) / 1_000_000) + 1
            var entry = pollfd(fd: queue, events: Int16(POLLIN), revents: 0)
            if poll(&entry, queue >= 0 ? 1 : 0, CInt(clamping: Swift.min(left, pause))) > 0 {
                // What it was is for the condition to find out.
                withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
                    while read(queue, buffer.baseAddress, buffer.count) > 0 {}
                }
                pause = 1
            } else {
                pause = Swift.min(pause * 2, longestPause)
            }
        }
    }
}
