import CLinux
import Glibc
import Synchronization

/// A thread with an event loop and the state that lives on it. The state is made on the thread, and only jobs on the
/// thread ever see it.
public final class EventLoopThread<State>: Sendable {
    /// Carries the state into jobs. Unchecked, because the compiler cannot see that every job of ``remote`` runs on the
    /// one thread that made the state.
    private final class Confined: @unchecked Sendable {
        var state: State?
        var loop: EventLoop?
    }

    private let confined: Confined
    private let remote: EventLoopRemote
    private let thread: pthread_t

    /// Starts the thread and returns when `make` has built the state on it.
    public init(
        name: String, pool: @escaping @Sendable () -> BufferPool = { BufferPool() },
        make: @escaping @Sendable (EventLoop) throws -> State
    ) throws {
        let confined = Confined()
        let started = Handoff<Result<EventLoopRemote, any Error>>()
        thread = try startThread(name: name) {
            do {
                let loop = try EventLoop(pool: pool())
                confined.state = try make(loop)
                confined.loop = loop
                started.put(.success(loop.remote))
                try loop.run()
            } catch {
                // After a start that succeeded this can only be epoll_wait failing, which no state can mend.
                if !started.put(.failure(error)) { fatalError("event loop \(name): \(error)") }
            }
            confined.loop?.remote.close()
            confined.state = nil
            confined.loop = nil
        }
        self.confined = confined
        do {
            remote = try started.take().get()
        } catch {
            pthread_join(thread, nil)
            throw error
        }
    }

    /// Runs a job on the thread.
    /// - Returns: Whether it will be run; not after ``stop()``.
    @discardableResult
    public func submit(_ job: @escaping @Sendable (State) -> Void) -> Bool {
        remote.submit { [confined] in
            if let state = confined.state { job(state) }
        }
    }

    /// Runs a job on the thread and waits for its result. Never call it from the thread itself.
    public func perform<Value: Sendable>(_ job: @escaping @Sendable (State) -> Value) async -> Value? {
        await withCheckedContinuation { continuation in
            let accepted = remote.submit { [confined] in
                continuation.resume(returning: confined.state.map(job))
            }
            if !accepted { continuation.resume(returning: nil) }
        }
    }

    /// The longest that a round of the loop has taken since this was last asked, in nanoseconds: so long, at most, has
    /// anybody on this thread waited for the others.
    public func takeLongestRound() -> UInt64 { remote.longestRound.take() }

    /// Ends the loop after the current round and waits for the thread.
    public func stop() {
        remote.submit { [confined] in confined.loop?.stop() }
        pthread_join(thread, nil)
    }
}

/// One value from one thread to another.
private final class Handoff<Value: Sendable>: Sendable {
    private let slot = Mutex<Value?>(nil)
    private let ready = ThreadSignal()

    @discardableResult
    func put(_ value: Value) -> Bool {
        let first = slot.withLock { slot in
            defer { if slot == nil { slot = value } }
            return slot == nil
        }
        if first { ready.signal() }
        return first
    }

    func take() -> Value {
        while true {
            ready.wait()
            if let value = slot.withLock({ $0 }) { return value }
        }
    }
}

/// Starts a joinable thread with a name of at most 15 bytes.
public func startThread(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) -> pthread_t {
    final class Body: Sendable {
        let name: String
        let run: @Sendable () -> Void
        init(_ name: String, _ run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(Body(name, body))
    let result = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { return nil }
            let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
            apus_name_thread(String(body.name.prefix(15)))
            body.run()
            return nil
        }, argument.toOpaque())
    guard result == 0 else {
        argument.release()
        throw SystemError("start thread \(name)", code: result)
    }
    return thread
}
