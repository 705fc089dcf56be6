import CLinux
import Glibc

/// What the kernel said about a descriptor.
public struct ReadyEvents: OptionSet, Sendable {
    public let rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let readable = ReadyEvents(rawValue: EPOLLIN.rawValue)
    public static let writable = ReadyEvents(rawValue: EPOLLOUT.rawValue)
    /// The peer sent FIN: what is in the buffer is all there will be.
    public static let readHangup = ReadyEvents(rawValue: EPOLLRDHUP.rawValue)
    /// Both directions are over.
    public static let hangup = ReadyEvents(rawValue: EPOLLHUP.rawValue)
    public static let error = ReadyEvents(rawValue: EPOLLERR.rawValue)
}

/// What to be told about, and how often.
public struct Interest: OptionSet, Sendable {
    public let rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let read = Interest(rawValue: EPOLLIN.rawValue | EPOLLRDHUP.rawValue)
    public static let write = Interest(rawValue: EPOLLOUT.rawValue)
    /// Told once per change instead of as long as it lasts: the handler goes on until EAGAIN.
    public static let edge = Interest(rawValue: EPOLLET.rawValue)
    /// What a listener wants that several loops watch: one of them is woken for each connection. The kernel takes
    /// nothing else along with it.
    public static let accept = Interest(rawValue: EPOLLIN.rawValue | EPOLLEXCLUSIVE.rawValue)
    /// Both directions, edge-triggered: what a connection wants.
    public static let connection: Interest = [.read, .write, .edge]
}

/// Who is told about a descriptor.
public protocol EventHandler: AnyObject {
    func ready(_ events: ReadyEvents)
}

/// Who has work to do once after the events of this round, such as sending what several handlers queued.
public protocol DeferredHandler: AnyObject {
    func runDeferred()
}

/// A thread's own epoll loop. Everything here, but ``remote``, is for the loop's thread alone.
public final class EventLoop {
    /// Names a registration; a stale one never reaches a later handler in the same slot.
    public struct Registration: Hashable, Sendable {
        let slot: UInt32
        let generation: UInt32
    }

    private struct Slot {
        var handler: (any EventHandler)?
        var fd: CInt = -1
        var generation: UInt32 = 0
    }

    public let pool: BufferPool
    /// The way in for other threads.
    public let remote: EventLoopRemote
    /// CLOCK_MONOTONIC in nanoseconds, read once a round.
    public private(set) var now: UInt64

    private let epoll: FileDescriptor
    private var slots: [Slot] = []
    private var freeSlots: [UInt32] = []
    private var timers = TimerQueue()
    private var deferred: [any DeferredHandler] = []
    private var stopped = false
    private static let wakeToken = UInt64.max

    public init(pool: BufferPool = BufferPool()) throws(SystemError) {
        epoll = FileDescriptor(owning: try check("epoll_create1") { epoll_create1(CInt(EPOLL_CLOEXEC)) })
        remote = try EventLoopRemote()
        self.pool = pool
        now = MonotonicClock.now
        try control(EPOLL_CTL_ADD, remote.wakeDescriptor, EPOLLIN.rawValue | EPOLLET.rawValue, Self.wakeToken)
    }

    // MARK: Descriptors

    /// Watches a descriptor, which stays the caller's. Deregister before closing it.
    public func register(
        _ fd: CInt, _ interest: Interest, _ handler: any EventHandler
    ) throws(SystemError) -> Registration {
        let slot: UInt32
        if let free = freeSlots.popLast() {
            slot = free
        } else {
            slot = UInt32(slots.count)
            slots.append(Slot())
        }
        let generation = slots[Int(slot)].generation
        do {
            try control(EPOLL_CTL_ADD, fd, interest.rawValue, UInt64(generation) << 32 | UInt64(slot))
        } catch {
            freeSlots.append(slot)
            throw error
        }
        slots[Int(slot)].handler = handler
        slots[Int(slot)].fd = fd
        return Registration(slot: slot, generation: generation)
    }

    public func modify(_ registration: Registration, _ interest: Interest) throws(SystemError) {
        guard isCurrent(registration) else { return }
        try control(
            EPOLL_CTL_MOD, slots[Int(registration.slot)].fd, interest.rawValue,
            UInt64(registration.generation) << 32 | UInt64(registration.slot))
    }

    /// Hands the events of a descriptor to another handler from now on.
    public func rehandle(_ registration: Registration, _ handler: any EventHandler) {
        guard isCurrent(registration) else { return }
        slots[Int(registration.slot)].handler = handler
    }

    /// Ends the watch; events already taken from the kernel are not delivered any more.
    public func deregister(_ registration: Registration) {
        guard isCurrent(registration) else { return }
        let fd = slots[Int(registration.slot)].fd
        // The only failures possible here mean that the kernel does not watch it any more.
        _ = epoll_ctl(epoll.raw, EPOLL_CTL_DEL, fd, nil)
        free(registration)
    }

    /// Closes a descriptor and ends its watch, for one system call less than ``deregister(_:)`` before the close: with its
    /// last copy the kernel forgets an open file everywhere. Where somebody else has a copy yet, as the sender of a
    /// descriptor may for a moment, the kernel goes on reporting until that is closed, and nobody is told.
    public func close(_ fd: CInt, _ registration: Registration?) {
        if let registration, isCurrent(registration) { free(registration) }
        _ = Glibc.close(fd)
    }

    private func free(_ registration: Registration) {
        slots[Int(registration.slot)].handler = nil
        slots[Int(registration.slot)].fd = -1
        slots[Int(registration.slot)].generation &+= 1
        freeSlots.append(registration.slot)
    }

    private func isCurrent(_ registration: Registration) -> Bool {
        slots[Int(registration.slot)].generation == registration.generation
            && slots[Int(registration.slot)].handler != nil
    }

    private func control(_ operation: CInt, _ fd: CInt, _ events: UInt32, _ token: UInt64) throws(SystemError) {
        var event = epoll_event()
        event.events = events
        event.data.u64 = token
        guard epoll_ctl(epoll.raw, operation, fd, &event) == 0 else { throw SystemError("epoll_ctl") }
    }

    // MARK: Time

    public func schedule(
        afterNanoseconds delay: UInt64, _ handler: any TimerHandler, tag: Int = 0
    ) -> TimerID {
        timers.set(at: MonotonicClock.now + delay, handler, tag: tag)
    }

    public func schedule(after delay: Duration, _ handler: any TimerHandler, tag: Int = 0) -> TimerID {
        let (seconds, attoseconds) = delay.components
        return schedule(
            afterNanoseconds: UInt64(Swift.max(seconds, 0)) * 1_000_000_000
                + UInt64(Swift.max(attoseconds, 0)) / 1_000_000_000, handler, tag: tag)
    }

    public func cancel(_ timer: TimerID) { timers.cancel(timer) }

    // MARK: Running

    /// Calls the handler once when the events of this round have been delivered. The caller sees to it that it asks
    /// once per round.
    public func afterRound(_ handler: any DeferredHandler) { deferred.append(handler) }

    /// Ends ``run()`` after the current round.
    public func stop() { stopped = true }

    /// Delivers events, timers and jobs until ``stop()``.
    public func run() throws(SystemError) {
        stopped = false
        while !stopped { try runRound(waitAtMostMilliseconds: -1) }
    }

    /// Looks for more events in one round while there is deferred work that they may add to.
    private static let looks = 2
    /// Whether the round before had more than one event: with one connection alone a second look finds nothing, and is a
    /// system call on its way.
    private var isBusy = false

    /// One round: waits for events (at most so long; -1 without limit), delivers them, then timers, then jobs from other
    /// threads, then deferred work.
    ///
    /// What came while events were delivered is delivered before the deferred work is done: what several connections have
    /// to send then goes in one record and one packet instead of one each.
    public func runRound(waitAtMostMilliseconds limit: CInt) throws(SystemError) {
        let capacity = 256
        try withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: capacity) { events throws(SystemError) in
            var total = 0
            for look in 1...Self.looks {
                let ready = epoll_wait(epoll.raw, events.baseAddress, CInt(capacity), look == 1 ? waitTime(limit) : 0)
                if ready < 0, errno != EINTR { throw SystemError("epoll_wait") }
                if look == 1 { now = MonotonicClock.now }
                guard ready > 0 else { break }
                total += Int(ready)
                deliver(UnsafeBufferPointer(rebasing: events[..<Int(ready)]))
                guard !deferred.isEmpty, isBusy || total > 1 else { break }
            }
            isBusy = total > 1
        }
        while let due = timers.popDue(now) { due.handler.timerFired(tag: due.tag) }
        remote.runJobs()
        while !deferred.isEmpty {
            let batch = deferred
            deferred.removeAll(keepingCapacity: true)
            for handler in batch { handler.runDeferred() }
        }
        remote.longestRound.note(MonotonicClock.now - now)
    }

    private func deliver(_ events: UnsafeBufferPointer<epoll_event>) {
        for event in events {
            let token = event.data.u64
            if token == Self.wakeToken {
                remote.clearWake()
                continue
            }
            let slot = Int(token & 0xffff_ffff)
            guard slots[slot].generation == UInt32(token >> 32), let handler = slots[slot].handler else { continue }
            handler.ready(ReadyEvents(rawValue: event.events))
        }
    }

    private func waitTime(_ limit: CInt) -> CInt {
        if !deferred.isEmpty || remote.hasJobs { return 0 }
        guard let next = timers.next else { return limit }
        let now = MonotonicClock.now
        if next <= now { return 0 }
        let milliseconds = CInt(Swift.min((next - now + 999_999) / 1_000_000, 1 << 30))
        return limit < 0 ? milliseconds : Swift.min(limit, milliseconds)
    }
}
