import Synchronization

/// The mesh state that many threads read and one writer at a time changes.
///
/// A reader gets a snapshot in constant time and is never kept waiting by a writer: changes are made on a copy and put
/// in place when they are whole. Nor does a reader ever free what a change has replaced, however much it is: the store
/// keeps every replaced state until no reader holds it any more, and lets it go on a writer's thread.
public final class MeshStore: Sendable {
    /// What an observer is told after a change is in place.
    public struct Event: Sendable {
        public let version: UInt64
        public let change: MeshChange
        public let state: MeshState
    }

    private struct Published: Sendable {
        var state: MeshState
        var version: UInt64 = 0
    }

    private struct Observers: Sendable {
        var next = 0
        var list: [(id: Int, notify: @Sendable (Event) -> Void)] = []
    }

    private struct Writer: Sendable {
        var state: MeshState
        /// Replaced, and perhaps still held by readers.
        var retired: [MeshState] = []

        /// Takes out what no reader holds any more.
        mutating func free() -> [MeshState] {
            var free: [MeshState] = []
            var index = 0
            while index < retired.count {
                if retired[index].isLastCopy() {
                    retired.swapAt(index, retired.count - 1)
                    free.append(retired.removeLast())
                } else {
                    index += 1
                }
            }
            return free
        }
    }

    private let writer: Mutex<Writer>
    private let published: Mutex<Published>
    private let observers = Mutex(Observers())

    public init(settings: MeshSettings = MeshSettings()) {
        let state = MeshState(settings: settings)
        writer = Mutex(Writer(state: state))
        published = Mutex(Published(state: state))
    }

    /// The state as of the last finished change.
    public func snapshot() -> MeshState { published.withLock { $0.state } }

    /// How many changes there have been.
    public var version: UInt64 { published.withLock { $0.version } }

    /// Applies updates as one change. Nothing is published and nobody is told when they change nothing.
    @discardableResult
    public func apply(_ updates: some Collection<MeshUpdate>) -> MeshChange {
        update { $0.apply(updates) }
    }

    /// Applies messages one after the other and publishes them as one change. What is published is shared from then on,
    /// and the next change copies what it touches: a mesh that comes in by many messages is made of fewer copies so.
    @discardableResult
    public func apply(messages: some Collection<[MeshUpdate]>) -> MeshChange {
        update { $0.apply(messages: messages) }
    }

    /// Changes the state with what the body does; the body says what that was.
    ///
    /// Observers run on the caller's thread, in the order of the changes, and must not change the store themselves.
    @discardableResult
    public func update(_ body: (inout MeshState) -> MeshChange) -> MeshChange {
        writer.withLock { writer in
            let change = body(&writer.state)
            guard !change.isEmpty else { return change }
            let state = writer.state
            let version = published.withLock { current in
                writer.retired.append(current.state)
                current.state = state
                current.version += 1
                return current.version
            }
            let event = Event(version: version, change: change, state: state)
            for observer in observers.withLock({ $0.list }) { observer.notify(event) }
            if change.workloads.count < Self.largeChange { _ = writer.free() }
            return change
        }
    }

    /// Workloads. What so large a change has replaced is much, and freed by ``reclaim()`` or a smaller change.
    private static let largeChange = 1000

    /// Frees the replaced states that no reader holds any more, on the caller's thread and without keeping a writer
    /// waiting. Every change that is not large does so too; for large ones, and for the time after the last one.
    ///
    /// - Returns: How many replaced states are still held.
    @discardableResult
    public func reclaim() -> Int {
        let (free, held) = writer.withLock { writer in (writer.free(), writer.retired.count) }
        withExtendedLifetime(free) {}
        return held
    }

    /// Calls `notify` after every change until the observation is ended.
    public func onChange(_ notify: @escaping @Sendable (Event) -> Void) -> Observation {
        let id = observers.withLock { observers in
            observers.next += 1
            observers.list.append((observers.next, notify))
            return observers.next
        }
        return Observation { [weak self] in self?.forget(id) }
    }

    private func forget(_ id: Int) {
        observers.withLock { $0.list.removeAll { $0.id == id } }
    }

    /// Ends with ``end()`` or when it is let go.
    public final class Observation: Sendable {
        private let onEnd: Mutex<(@Sendable () -> Void)?>
        init(_ onEnd: @escaping @Sendable () -> Void) { self.onEnd = Mutex(onEnd) }
        deinit { end() }

        public func end() {
            let onEnd = self.onEnd.withLock { action in
                defer { action = nil }
                return action
            }
            onEnd?()
        }
    }
}
