import Discovery
import Kubernetes
import Logging
import Synchronization

/// Writes what differs, one after the other: never faster than the pace, and each with a back-off of its own when it fails.
final class PacedWriter<Key: Hashable & Comparable & Sendable & CustomStringConvertible>: Sendable {
    private struct Failure {
        var backoff: Backoff
        var until: ContinuousClock.Instant
    }

    private let what: String
    private let shortestPause: Duration
    private let longestPause: Duration
    private let log: Logger
    private let failures = Mutex<[Key: Failure]>([:])
    private let changes = ChangeSignal()

    /// - Parameter what: Is written, for the log: `a condition`.
    init(
        _ what: String, shortestPause: Duration = .milliseconds(200), longestPause: Duration = .seconds(60), log: Logger
    ) {
        self.what = what
        self.shortestPause = shortestPause
        self.longestPause = longestPause
        self.log = log
    }

    /// Something may be due that was not.
    func notify() { changes.notify() }

    /// Runs until the task is cancelled.
    ///
    /// - Parameters:
    ///   - due: What differs now.
    ///   - write: Makes one thing as it should be; it is not due afterwards.
    func run(
        due: @escaping @Sendable () -> [Key],
        write: @escaping @Sendable (Key) async throws(KubernetesError) -> Void
    ) async {
        var pace = Pace()
        while !Task.isCancelled {
            let (ready, wait) = next(due())
            guard !ready.isEmpty else {
                _ = await changes.wait(timeout: wait) { !self.next(due()).ready.isEmpty }
                continue
            }
            for key in ready {
                let pause = pace.take(at: .now)
                // Ends early when the task is cancelled, which is looked at next.
                if pause > .zero { try? await Task.sleep(for: pause) }
                if Task.isCancelled { return }
                do throws(KubernetesError) {
                    try await write(key)
                    failures.withLock { $0[key] = nil }
                } catch {
                    failed(key, error)
                }
            }
        }
    }

    /// What can be written now; and how long until more can.
    private func next(_ due: [Key]) -> (ready: [Key], wait: Duration) {
        failures.withLock { failures in
            if !failures.isEmpty {
                let all = Set(due)
                failures = failures.filter { all.contains($0.key) }
            }
            let now = ContinuousClock.now
            var (ready, wait): ([Key], Duration) = ([], .seconds(60))
            for key in due {
                if let until = failures[key]?.until, until > now {
                    wait = min(wait, until - now)
                } else {
                    ready.append(key)
                }
            }
            return (ready.sorted(), wait)
        }
    }

    private func failed(_ key: Key, _ error: KubernetesError) {
        if Task.isCancelled { return }
        let isFirst = failures.withLock { failures in
            let isFirst = failures[key] == nil
            var backoff = failures[key]?.backoff ?? Backoff(shortest: shortestPause, longest: longestPause)
            let pause = backoff.next(atLeast: .seconds(min(error.retryAfter ?? 0, 60)))
            failures[key] = Failure(backoff: backoff, until: .now + pause)
            return isFirst
        }
        guard isFirst else { return }
        log.warning("\(what) cannot be written yet", metadata: ["object": "\(key)", "error": "\(error)"])
    }
}
