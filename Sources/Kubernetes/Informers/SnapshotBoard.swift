import Foundation
import Logging
import ObjectSource
import Synchronization

/// Where reflectors put what they hear, and readers find it.
final class SnapshotBoard: Sendable {
    private struct State {
        var contents: ClusterContents
        var readers: [Int: AsyncStream<ObjectSnapshot>.Continuation] = [:]
        var nextReader = 0
        var isClosed = false
        var lastContact: Int64?
        /// By kind: why the server does not answer.
        var problems: [ObjectKind: KubernetesError] = [:]
        var isPublishingDue = false
        var lastPublished: ContinuousClock.Instant?
    }

    private let state: Mutex<State>
    private let log: Logger

    init(kinds: Set<ObjectKind>, log: Logger) {
        state = Mutex(State(contents: ClusterContents(kinds: kinds)))
        self.log = log
    }

    // MARK: Reading

    func snapshot() -> ObjectSnapshot {
        state.withLock { $0.contents.isSynced ? $0.contents.snapshot : ObjectSnapshot() }
    }

    var health: ObjectSourceHealth {
        state.withLock { state in
            let first = state.problems.min { $0.key.rawValue < $1.key.rawValue }
            return ObjectSourceHealth(
                isSynced: state.contents.isSynced, lastContact: state.lastContact,
                problem: first.map { "\($0.key.rawValue): \($0.value)" })
        }
    }

    func snapshots() -> AsyncStream<ObjectSnapshot> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: ObjectSnapshot.self, bufferingPolicy: .bufferingNewest(1))
        let id: Int? = state.withLock { state in
            if state.contents.isSynced { continuation.yield(state.contents.snapshot) }
            guard !state.isClosed else { return nil }
            state.nextReader += 1
            state.readers[state.nextReader] = continuation
            return state.nextReader
        }
        guard let id else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.readers.removeValue(forKey: id) }
        }
        return stream
    }

    func close() {
        let readers = state.withLock { state in
            state.isClosed = true
            defer { state.readers = [:] }
            return Array(state.readers.values)
        }
        for reader in readers { reader.finish() }
    }

    // MARK: Hearing

    func heard(_ news: Reflector.News, of kind: ObjectKind) {
        switch news {
        case .contact: contact(kind)
        case .problem(let error): problem(error, kind)
        case .change(let change): apply(change, kind)
        }
    }

    private func contact(_ kind: ObjectKind) {
        let old = state.withLock { state in
            state.lastContact = Int64(Date().timeIntervalSince1970)
            return state.problems.removeValue(forKey: kind)
        }
        if old != nil { log.info("the API server answers again", metadata: ["kind": "\(kind.rawValue)"]) }
    }

    private func problem(_ error: KubernetesError, _ kind: ObjectKind) {
        let (isNews, last) = state.withLock { state in
            let old = state.problems.updateValue(error, forKey: kind)
            return (old?.code != error.code, state.lastContact)
        }
        guard isNews else { return }
        log.warning(
            "objects cannot be followed; what was last known stands",
            metadata: [
                "kind": "\(kind.rawValue)", "error": "\(error)",
                "last-contact":
                    "\(last.map { Date(timeIntervalSince1970: Double($0)).formatted(.iso8601) } ?? "never")",
            ])
    }

    private func apply(_ change: Reflection.Change, _ kind: ObjectKind) {
        let pause: Duration? = state.withLock { state in
            let differs = state.contents.apply(change, of: kind)
            guard differs, !state.isClosed, state.contents.isSynced, !state.isPublishingDue else { return nil }
            state.isPublishingDue = true
            guard let last = state.lastPublished else { return .zero }
            return max(.zero, Self.rest(state.contents.snapshot) - (ContinuousClock.now - last))
        }
        guard let pause else { return }
        if pause == .zero { return publish() }
        Task { [weak self] in
            // Nobody cancels it.
            try? await Task.sleep(for: pause)
            self?.publish()
        }
    }

    /// The least time from one snapshot to the next: changes come in crowds, and a snapshot that somebody holds costs a
    /// copy of the kind that changes after it, unless that is one of those there are many of.
    private static func rest(_ snapshot: ObjectSnapshot) -> Duration {
        .milliseconds(10) + .microseconds(snapshot.copiedCount)
    }

    private func publish() {
        state.withLock { state in
            state.isPublishingDue = false
            guard !state.isClosed, state.contents.isSynced else { return }
            state.lastPublished = .now
            for reader in state.readers.values { reader.yield(state.contents.snapshot) }
        }
    }
}
