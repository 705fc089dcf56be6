import Synchronization

/// What has to happen before the process is ready, each task until it is done.
public final class Readiness: Sendable {
    private let tasks = Mutex<[String: Int]>([:])

    public init() {}

    /// Adds a task. The process is not ready until ``Task/done()`` is called on it; letting it go does not count.
    public func pending(_ task: String) -> Task {
        tasks.withLock { $0[task, default: 0] += 1 }
        return Task(name: task, readiness: self)
    }

    /// Names of the tasks that are not done, sorted, each once.
    public var pendingTasks: [String] { tasks.withLock { $0.keys.sorted() } }

    public var isReady: Bool { tasks.withLock { $0.isEmpty } }

    public final class Task: Sendable {
        public let name: String
        private let readiness: Readiness
        private let isPending = Mutex(true)

        fileprivate init(name: String, readiness: Readiness) {
            self.name = name
            self.readiness = readiness
        }

        /// Once; further calls do nothing.
        public func done() {
            let first = isPending.withLock { pending in
                defer { pending = false }
                return pending
            }
            guard first else { return }
            readiness.tasks.withLock { tasks in
                let left = (tasks[name] ?? 1) - 1
                tasks[name] = left > 0 ? left : nil
            }
        }
    }
}
