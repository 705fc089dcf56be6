import LinuxNetwork
import Netlink
import Synchronization

/// Tells the agent that the kernel's state has changed in some namespace, on a thread of its own. What changed, and
/// whether it matters, is found out by reading it.
final class DriftWatch: Sendable {
    /// One element whenever there is something to ``take()``; several changes may share one.
    let signals: AsyncStream<Void>
    private let found: Found
    private let thread: EventLoopThread<Reader>

    /// What was heard and not taken yet: as many places as there are namespaces, at most.
    private final class Found: Sendable {
        let places = Mutex<Set<NamespaceChanges.Place>>([])
        let continuation: AsyncStream<Void>.Continuation

        init(_ continuation: AsyncStream<Void>.Continuation) { self.continuation = continuation }
    }

    private final class Reader: EventHandler {
        let changes: NamespaceChanges
        let found: Found

        init(_ loop: EventLoop, _ found: Found) throws {
            changes = try NamespaceChanges()
            self.found = found
            for descriptor in changes.descriptors { _ = try loop.register(descriptor, .read, self) }
        }

        func ready(_ events: ReadyEvents) {
            let places = changes.take()
            guard !places.isEmpty else { return }
            found.places.withLock { $0.formUnion(places) }
            found.continuation.yield()
        }
    }

    /// - Parameter node: The node's network namespace, which counts as its own; `nil`: that of the calling thread.
    init(in node: SharedNamespace?) throws {
        let (signals, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let found = Found(continuation)
        self.signals = signals
        self.found = found
        thread = try EventLoopThread(name: "agent-netlink") { loop in
            try node.within { try Reader(loop, found) }
        }
    }

    func take() -> Set<NamespaceChanges.Place> {
        found.places.withLock { places in
            defer { places = [] }
            return places
        }
    }

    func stop() {
        thread.stop()
        found.continuation.finish()
    }
}
