import CProfile
import Glibc
import Synchronization

/// Where this process spends its processor time: the stacks of running threads, sampled by the kernel's profiling timer.
///
/// It needs no capability. What costs is the sampling alone: some microseconds a sample, and the reading of symbols at
/// the end. One profile at a time.
public enum CPUProfiler {
    /// Why there is no profile.
    public struct Failure: Error, CustomStringConvertible {
        public enum Code: Sendable { case busy, refused }
        public let code: Code
        public let description: String
    }

    /// What ``HTTPRoute/cpuProfile()`` takes: seconds, and samples in a second of processor time.
    static let seconds = 1...300
    static let frequencies = 1...1000

    /// Words for the samples of one turn, on average some 15 a sample.
    private static let capacity = 1 << 18
    private static let turn: Duration = .seconds(1)

    /// Samples for `duration`, `frequency` times in a second of processor time (the kernel's clock tick bounds it).
    /// Ends early when the calling task is cancelled.
    /// - Throws: ``Failure``: another profile is being made, or the kernel refuses the timer.
    static func record(for duration: Duration, frequency: Int) async throws(Failure) -> CPUProfile {
        try start(frequency)
        return await finish(after: duration, frequency)
    }

    /// Must be followed by ``finish(after:_:)``.
    static func start(_ frequency: Int) throws(Failure) {
        guard apus_profile_start(capacity, UInt32(frequency)) == 0 else {
            guard errno == EBUSY else {
                throw Failure(
                    code: .refused,
                    description: "the profiling timer cannot be set: \(String(cString: strerror(errno)))")
            }
            throw Failure(code: .busy, description: "a profile is being made already; ask again when it is over")
        }
    }

    static func finish(after duration: Duration, _ frequency: Int) async -> CPUProfile {
        let started = Timestamp.now
        let end = ContinuousClock.now + duration
        var stacks = StackCounts()
        var words = [UInt64](repeating: 0, count: capacity)
        var isLast = false
        while !isLast {
            let pause = min(end - ContinuousClock.now, turn)
            // Cancelled: what there is by then is the profile.
            isLast = (try? await Task.sleep(for: max(pause, .zero))) == nil || ContinuousClock.now >= end
            var lost: UInt64 = 0
            let count = apus_profile_take(&words, words.count, &lost, isLast)
            stacks.add(words[..<count])
            stacks.addLost(lost)
        }
        return CPUProfile(
            stacks: stacks, started: started, duration: duration, frequency: frequency, map: ProgramMap.ofThisProcess())
    }
}

/// How often each stack was met.
struct StackCounts {
    /// Different stacks kept; further ones are counted as lost.
    static let limit = 50_000

    /// By the program counters, innermost first.
    private(set) var counts: [[UInt64]: Int] = [:]
    private(set) var lost = 0

    /// Takes samples in the form of `apus_profile_take`. What does not hold together ends them.
    mutating func add(_ words: ArraySlice<UInt64>) {
        var rest = words
        while let count = rest.popFirst(), count > 0, count <= UInt64(rest.count) {
            let stack = Array(rest.prefix(Int(count)))
            rest = rest.dropFirst(Int(count))
            if counts[stack] != nil || counts.count < Self.limit {
                counts[stack, default: 0] += 1
            } else {
                lost += 1
            }
        }
    }

    mutating func addLost(_ count: UInt64) { lost += Int(clamping: count) }
}
