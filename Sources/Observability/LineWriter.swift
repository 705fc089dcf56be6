import DequeModule
import Dispatch
import Glibc
import LinuxNetwork
import NIOPosix
import Synchronization

/// Lines on their way to a sink: a bounded queue and one thread that renders and writes.
///
/// Whoever offers an item never waits: when the queue is full, because the sink is slow or stuck, the item is dropped
/// and counted.
final class LineWriter<Item: Sendable>: Sendable {
    private struct Queue: Sendable {
        var items: Deque<Item> = []
        /// A job is on its way to the thread, or running, that will empty the queue.
        var isDraining = false
        var isClosed = false
    }

    /// Only ever used on the writer's thread; the lock is there for the compiler and never contended.
    private struct Output: ~Copyable, Sendable {
        var file: OutputFile
        var bytes: [UInt8] = []
        var batch: [Item] = []
    }

    private let sink: LogSink
    private let capacity: Int
    private let batchSize: Int
    private let gatherMilliseconds: CInt
    private let render: @Sendable (Item, inout [UInt8]) -> Void
    private let queue = Mutex(Queue())
    private let output: Mutex<Output>
    private let pool = NIOThreadPool(numberOfThreads: 1)
    private let droppedCount = Atomic<UInt64>(0)
    private let writtenCount = Atomic<UInt64>(0)
    private let wantsReopen = Atomic<Bool>(false)
    /// When a close gives up on a stuck sink, as `MonotonicClock` tells it.
    private let giveUpAt = Atomic<UInt64>(.max)
    private let failure = Mutex<SystemError?>(nil)

    /// - Parameter gatherMilliseconds: how long lines may gather before they are written: under load one wake-up of the
    ///   thread then writes many of them, and who offers one pays for none.
    init(
        sink: LogSink, capacity: Int, batchSize: Int = 64, gatherMilliseconds: CInt = 0,
        render: @escaping @Sendable (Item, inout [UInt8]) -> Void
    ) throws(SystemError) {
        self.sink = sink
        self.capacity = capacity
        self.batchSize = batchSize
        self.gatherMilliseconds = gatherMilliseconds
        self.render = render
        output = Mutex(Output(file: try sink.open()))
        pool.start()
    }

    deinit { close(milliseconds: 0) }

    /// Items that were not written, because the queue was full or the sink refused them.
    var dropped: UInt64 { droppedCount.load(ordering: .relaxed) }
    var written: UInt64 { writtenCount.load(ordering: .relaxed) }
    /// The last failure to open or write, `nil` after a success.
    var lastError: SystemError? { failure.withLock { $0 } }

    /// Takes an item, or drops it when the queue is full or closed.
    @discardableResult
    func offer(_ item: Item) -> Bool {
        let (taken, start) = queue.withLock { queue -> (Bool, Bool) in
            guard !queue.isClosed, queue.items.count < capacity else { return (false, false) }
            queue.items.append(item)
            defer { queue.isDraining = true }
            return (true, !queue.isDraining)
        }
        if !taken { droppedCount.add(1, ordering: .relaxed) }
        if start { submit { $0.drain() } }
        return taken
    }

    /// Opens the sink's path again before the next line is written.
    func reopen() {
        wantsReopen.store(true, ordering: .relaxed)
        submit { $0.reopenIfWanted() }
    }

    /// Waits until what was offered before is written.
    /// - Returns: Whether that came about in time.
    @discardableResult
    func flush(milliseconds: Int) -> Bool {
        let done = DispatchSemaphore(value: 0)
        pool.submit { _ in done.signal() }
        return done.wait(timeout: .now() + .milliseconds(milliseconds)) == .success
    }

    /// Takes no more items, writes those it has for as long as is allowed, and ends the thread.
    /// - Returns: Whether everything was written.
    @discardableResult
    func close(milliseconds: Int) -> Bool {
        let first = queue.withLock { queue in
            defer { queue.isClosed = true }
            return !queue.isClosed
        }
        guard first else { return true }
        giveUpAt.store(MonotonicClock.now + UInt64(Swift.max(0, milliseconds)) * 1_000_000, ordering: .relaxed)
        let flushed = flush(milliseconds: milliseconds)
        pool.shutdownGracefully { _ in }
        return flushed && queue.withLock { $0.items.isEmpty }
    }

    // MARK: On the writer's thread

    private func submit(_ job: @escaping @Sendable (LineWriter) -> Void) {
        pool.submit { [self] state in
            // A pool that is shut down cancels what it has not begun.
            if state == .active { job(self) }
        }
    }

    private func drain() {
        if gatherMilliseconds > 0 { _ = poll(nil, 0, gatherMilliseconds) }
        reopenIfWanted()
        output.withLock { output in
            while true {
                let more = queue.withLock { queue in
                    // One by one they are moved; a slice of the queue would copy each.
                    while output.batch.count < batchSize, let item = queue.items.popFirst() {
                        output.batch.append(item)
                    }
                    queue.isDraining = !output.batch.isEmpty
                    return queue.isDraining
                }
                guard more else { return }
                for item in output.batch { render(item, &output.bytes) }
                let count = UInt64(output.batch.count)
                if write(output.bytes, to: output.file) {
                    writtenCount.add(count, ordering: .relaxed)
                } else {
                    droppedCount.add(count, ordering: .relaxed)
                }
                output.batch.removeAll(keepingCapacity: true)
                output.bytes.removeAll(keepingCapacity: true)
            }
        }
    }

    private func write(_ bytes: [UInt8], to file: borrowing OutputFile) -> Bool {
        var offset = 0
        do throws(SystemError) {
            while offset < bytes.count {
                // Short waits, so that a close with a deadline is noticed while the sink is stuck.
                offset += try file.write(bytes, from: offset, milliseconds: 100)
                if offset < bytes.count, MonotonicClock.now >= giveUpAt.load(ordering: .relaxed) { return false }
            }
            failure.withLock { $0 = nil }
            return true
        } catch {
            failure.withLock { $0 = error }
            return false
        }
    }

    private func reopenIfWanted() {
        guard wantsReopen.exchange(false, ordering: .relaxed) else { return }
        do throws(SystemError) {
            try output.withLock { (output) throws(SystemError) in output.file = try sink.open() }
        } catch {
            // The old file stays in use: lines in the wrong place are better than none.
            failure.withLock { $0 = error }
        }
    }
}
