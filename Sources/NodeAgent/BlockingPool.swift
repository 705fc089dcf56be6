import LinuxNetwork
import Synchronization

/// A few threads for what blocks or changes namespaces, neither of which may happen on Swift's own pool.
final class BlockingPool: Sendable {
    private let threads: [EventLoopThread<Void>]
    private let next = Atomic<Int>(0)
    /// Asked before each piece of work, on its thread. For tests, in which an agent dies between two of them.
    private let before: @Sendable () throws -> Void

    init(threads count: Int, before: @escaping @Sendable () throws -> Void = {}) throws {
        self.before = before
        threads = try (0..<count).map { index in
            try EventLoopThread<Void>(name: "agent-work-\(index)") { _ in }
        }
    }

    func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
        let thread = threads[Int(UInt(bitPattern: index) % UInt(threads.count))]
        guard
            let result = await thread.perform({ [before] _ in
                Result {
                    try before()
                    return try body()
                }
            })
        else {
            throw AgentError(.tryAgain, "the agent is ending")
        }
        return try result.get()
    }

    /// Waits for what is running; what has not begun is refused.
    func stop() {
        for thread in threads { thread.stop() }
    }
}

/// A namespace that several owners hold: it is closed when the last one lets go, so never under a running call.
public final class SharedNamespace: Sendable {
    public let value: NetworkNamespace

    public init(_ value: consuming NetworkNamespace) { self.value = value }

    public var id: NamespaceID { value.id }
}
