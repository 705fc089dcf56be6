import Addressing
import Synchronization

/// What the node's connections have found out about endpoints. Shared by all workers; while nothing has failed, asking it
/// costs one atomic load.
final class EndpointHealth: Sendable {
    private let table = Mutex(EjectionTable())
    private let isMarked = Atomic<Bool>(false)

    /// Endpoints, by uid, that connections to `destination` should not go to now.
    func ejected(from destination: Endpoint, at now: UInt64) -> Set<String> {
        guard isMarked.load(ordering: .relaxed) else { return [] }
        return table.withLock { $0.ejected(from: destination, at: now) }
    }

    /// - Returns: Nanoseconds the endpoint is passed over from now; `nil` when it is not.
    func failed(_ uid: String, of destination: Endpoint, among endpoints: Int, at now: UInt64) -> UInt64? {
        table.withLock { table in
            let pause = table.failed(uid, of: destination, among: endpoints, at: now)
            isMarked.store(table.count > 0, ordering: .relaxed)
            return pause
        }
    }

    func succeeded(_ uid: String, of destination: Endpoint) {
        guard isMarked.load(ordering: .relaxed) else { return }
        table.withLock { table in
            table.succeeded(uid, of: destination)
            isMarked.store(table.count > 0, ordering: .relaxed)
        }
    }
}
