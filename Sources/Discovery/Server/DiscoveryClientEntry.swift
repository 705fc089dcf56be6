import Synchronization

/// A connected client, as the server keeps it. Its session has a lock of its own: what one client is sent is put together
/// while others are served and the next state is published.
final class DiscoveryClientEntry: Sendable {
    let id: UInt64
    let name: String
    let wake: AsyncStream<Void>.Continuation
    let session = Mutex(DiscoverySession())
    /// Of the response that is on its way, where it is a large one.
    private let ticket = Mutex<UInt64?>(nil)

    init(id: UInt64, name: String, wake: AsyncStream<Void>.Continuation) {
        self.id = id
        self.name = name
        self.wake = wake
    }

    /// The ticket that was there before.
    func exchange(ticket new: UInt64?) -> UInt64? {
        ticket.withLock { ticket in
            defer { ticket = new }
            return ticket
        }
    }

    var status: DiscoveryClientStatus {
        session.withLock { session in
            var acknowledged: [String: UInt64] = [:]
            for type in session.types { acknowledged[type] = session.acknowledged(type) }
            return DiscoveryClientStatus(id: id, name: name, nodeID: session.nodeID, acknowledged: acknowledged)
        }
    }

    /// Whether it has acknowledged all of a mark that is of a type it asked for.
    func has(_ mark: DiscoveryServer.Mark) -> Bool {
        session.withLock { session in
            mark.generations.allSatisfy { type, generation in
                session.acknowledged(type).map { $0 >= generation } ?? true
            }
        }
    }
}
