import Glibc
import LinuxNetwork

/// Waits for conditions that nobody announces: the files, processes and counters of other programs.
public enum Waiting {
    /// Asks every `interval` until the answer is not `nil`.
    /// - Parameter what: what is waited for, for the error: `the agent's socket`.
    /// - Throws: ``LocalClusterError`` with code `timeout`, with the last detail, or what `condition` throws.
    public static func until<Value>(
        _ what: @autoclosure () -> String, within timeout: Duration, every interval: Duration = .milliseconds(20),
        detail: () -> String? = { nil }, _ condition: () throws -> Value?
    ) throws -> Value {
        let deadline = ContinuousClock.now + timeout
        while true {
            if let value = try condition() { return value }
            guard ContinuousClock.now < deadline else {
                throw LocalClusterError(.timeout, "waited \(timeout) for \(what())", hint: detail())
            }
            pause(interval)
        }
    }

    /// The same for a condition without a value.
    public static func untilTrue(
        _ what: @autoclosure () -> String, within timeout: Duration, every interval: Duration = .milliseconds(20),
        detail: () -> String? = { nil }, _ condition: () throws -> Bool
    ) throws {
        _ = try until(what(), within: timeout, every: interval, detail: detail) { try condition() ? true : nil }
    }

    /// Waits for a condition that something in one of the folders brings about: asks again when something happens there.
    public static func untilChanged(
        _ what: @autoclosure () -> String, in folders: [String], within timeout: Duration,
        detail: () -> String? = { nil }, _ condition: () throws -> Bool
    ) throws {
        let (seconds, attoseconds) = timeout.components
        let milliseconds = Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000)
        guard try !FileWait.until(in: folders, milliseconds: milliseconds, condition) else { return }
        throw LocalClusterError(.timeout, "waited \(timeout) for \(what())", hint: detail())
    }

    /// Lets the calling thread rest between two looks.
    public static func pause(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        _ = poll(nil, 0, CInt(clamping: seconds * 1000 + attoseconds / 1_000_000_000_000_000))
    }
}
