import Dispatch
import Synchronization

/// Objects in a folder: what a user writes (`source`), with what a node's reporters say about pods (`status`).
///
/// Files end in `.yaml`, `.yml` or `.json` and may hold many documents; folders inside are not read. Edits are seen
/// within a tenth of a second, by inotify, and by a slow poll should that ever miss one. A file is read when it has
/// come to rest, or at once when it was renamed into its place; as a whole, at most 1 MiB of it; a wrong file keeps its
/// last good objects.
public final class FolderObjectSource: ObjectSource {
    /// How often the folders are looked at without any sign of change.
    static let pollInterval = DispatchTimeInterval.seconds(3)
    /// The least time from one look at the folders to the next.
    private static let debounce = DispatchTimeInterval.milliseconds(15)

    private let shared: Mutex<Shared>
    private let worker: Worker

    private struct Shared {
        var snapshot = ObjectSnapshot()
        var readers: [Int: AsyncStream<ObjectSnapshot>.Continuation] = [:]
        var nextReader = 0
        var closed = false
    }

    /// Reads the folders once before it returns.
    ///
    /// - Parameters:
    ///   - source: The folder a user writes to. It may be empty; it must exist.
    ///   - status: The folder reporters write to; `nil` leaves pods as the source has them.
    /// - Throws: ``ObjectSourceError`` `unreadable` when a folder cannot be read now. Wrong files are no error: they
    ///   are in the snapshot's problems.
    public init(source: String, status: String? = nil) throws(ObjectSourceError) {
        var reader = FolderReader(source: source, status: status)
        if let problem = reader.scan(settle: false).folderProblem {
            throw ObjectSourceError(.unreadable, "cannot read the objects", cause: problem.description)
        }
        var first = reader.snapshot()
        first.version = 1
        shared = Mutex(Shared(snapshot: first))
        worker = Worker(reader: reader)
        worker.start(folders: [source] + (status.map { [$0] } ?? [])) { [weak self] in self?.publish($0) }
    }

    deinit { end() }

    public func snapshot() -> ObjectSnapshot { shared.withLock { $0.snapshot } }

    public func snapshots() -> AsyncStream<ObjectSnapshot> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: ObjectSnapshot.self, bufferingPolicy: .bufferingNewest(1))
        let id: Int? = shared.withLock { shared in
            continuation.yield(shared.snapshot)
            guard !shared.closed else { return nil }
            shared.nextReader += 1
            shared.readers[shared.nextReader] = continuation
            return shared.nextReader
        }
        guard let id else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            self?.shared.withLock { _ = $0.readers.removeValue(forKey: id) }
        }
        return stream
    }

    /// Ends the watch and every stream. The last snapshot stays.
    public func close() { end() }

    private func end() {
        let readers = shared.withLock { shared -> [AsyncStream<ObjectSnapshot>.Continuation] in
            guard !shared.closed else { return [] }
            shared.closed = true
            defer { shared.readers = [:] }
            return Array(shared.readers.values)
        }
        for reader in readers { reader.finish() }
        worker.stop()
    }

    private func publish(_ snapshot: ObjectSnapshot) {
        shared.withLock { shared in
            guard !shared.closed, !snapshot.hasSameContent(as: shared.snapshot) else { return }
            var next = snapshot
            next.version = shared.snapshot.version + 1
            shared.snapshot = next
            for reader in shared.readers.values { reader.yield(next) }
        }
    }

    /// The part that lives on the queue.
    private final class Worker: @unchecked Sendable {
        // Every member is touched on the queue alone, which is what makes this sendable.
        private var reader: FolderReader
        private var watch: FolderWatch?
        private var timer: (any DispatchSourceTimer)?
        private var folders: [String] = []
        private var scheduled = false
        /// What has happened since the last look.
        private var news = FolderWatch.News()
        private var lastScan = DispatchTime(uptimeNanoseconds: 0)
        private var publish: (@Sendable (ObjectSnapshot) -> Void)?
        private let queue = DispatchQueue(label: "apus.objects")

        init(reader: FolderReader) { self.reader = reader }

        func start(folders: [String], publish: @escaping @Sendable (ObjectSnapshot) -> Void) {
            queue.async { [self] in
                self.folders = folders
                self.publish = publish
                watch = FolderWatch(queue: queue) { [weak self] in self?.happened($0) }
                for folder in folders { watch?.watch(folder) }
                let timer = DispatchSource.makeTimerSource(queue: queue)
                let interval = FolderObjectSource.pollInterval
                timer.schedule(deadline: .now() + interval, repeating: interval, leeway: .milliseconds(500))
                timer.setEventHandler { [weak self] in
                    guard let self else { return }
                    for folder in self.folders { self.watch?.watch(folder) }
                    self.news.isVague = true
                    self.scan()
                }
                timer.resume()
                self.timer = timer
                // For a change between the first reading and the watch.
                news.isVague = true
                schedule(after: FolderObjectSource.debounce)
            }
        }

        func stop() {
            queue.async { [self] in
                timer?.cancel()
                timer = nil
                watch = nil
                publish = nil
            }
        }

        /// What was written must rest, and so may we. What was renamed into place is looked at without delay, unless
        /// much is happening.
        private func happened(_ found: FolderWatch.News) {
            guard let found = reader.relevant(found) else { return }
            news.merge(found)
            guard !found.arrived.isEmpty else { return schedule(at: .now() + FolderObjectSource.debounce) }
            let next = lastScan + FolderObjectSource.debounce
            if next <= .now() { scan() } else { schedule(at: next) }
        }

        private func schedule(after delay: DispatchTimeInterval) { schedule(at: .now() + delay) }

        private func schedule(at time: DispatchTime) {
            guard !scheduled, publish != nil else { return }
            scheduled = true
            queue.asyncAfter(deadline: time) { [weak self] in
                guard let self else { return }
                self.scheduled = false
                self.scan()
            }
        }

        private func scan() {
            guard let publish else { return }
            let outcome = news.isVague ? reader.scan(settle: true, news.arrived) : reader.scan(news)
            news = FolderWatch.News()
            lastScan = .now()
            if outcome.changed { publish(reader.snapshot()) }
            if outcome.unsettled { schedule(after: FolderObjectSource.debounce) }
        }
    }
}
