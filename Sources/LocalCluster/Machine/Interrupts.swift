import Dispatch
import Glibc
import LinuxNetwork
import Synchronization

/// SIGINT, SIGTERM and SIGHUP as something to wait for, so that what was built can be taken down.
public final class Interrupts: Sendable {
    /// The signals that came and were not taken yet.
    private final class Queue: Sendable {
        private let arrived = DispatchSemaphore(value: 0)
        private let signals = Mutex<[CInt]>([])

        func put(_ signal: CInt) {
            signals.withLock { $0.append(signal) }
            arrived.signal()
        }

        func take() -> CInt {
            while true {
                arrived.wait()
                if let signal = signals.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return signal }
            }
        }
    }

    private let queue: Queue
    private let isEnding = Atomic(false)
    /// Kept, since a source that is let go tells nothing any more.
    private let sources: Mutex<[any DispatchSourceSignal]>

    /// From now on the signals no longer end the process.
    public init() {
        let queue = Queue()
        self.queue = queue
        sources = Mutex(
            [SIGINT, SIGTERM, SIGHUP].map { number in
                signal(number, SIG_IGN)
                let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
                source.setEventHandler { queue.put(number) }
                source.activate()
                return source
            })
    }

    /// Waits for the next one.
    /// - Returns: The signal's number.
    public func wait() -> CInt { queue.take() }

    /// Runs `body` on a thread of its own when one comes, and ends the process with 128 and its number.
    public func onFirst(_ body: @escaping @Sendable () -> Void) throws {
        _ = try startThread(name: "signals") { [self] in
            let signal = wait()
            isEnding.store(true, ordering: .releasing)
            body()
            _exit(128 + signal)
        }
    }

    /// Does not come back once a signal has come for ``onFirst(_:)``: called before what would get in its way.
    public func standAside() {
        while isEnding.load(ordering: .acquiring) { pause() }
    }
}
