import Addressing
import Glibc
import Synchronization
import Testing

@testable import LinuxNetwork

@Suite("Event loop")
struct EventLoopTests {
    private final class Recorder: EventHandler, TimerHandler, DeferredHandler {
        var events: [ReadyEvents] = []
        var tags: [Int] = []
        var deferred = 0
        func ready(_ events: ReadyEvents) { self.events.append(events) }
        func timerFired(tag: Int) { tags.append(tag) }
        func runDeferred() { deferred += 1 }
    }

    @Test("timers fire in the order of their deadlines, and a cancelled one never")
    func timers() throws {
        let loop = try EventLoop()
        let recorder = Recorder()
        _ = loop.schedule(afterNanoseconds: 3_000_000, recorder, tag: 3)
        _ = loop.schedule(afterNanoseconds: 1_000_000, recorder, tag: 1)
        let cancelled = loop.schedule(afterNanoseconds: 2_000_000, recorder, tag: 2)
        loop.cancel(cancelled)
        loop.cancel(cancelled)
        let limit = MonotonicClock.now + 2_000_000_000
        while recorder.tags.count < 2, MonotonicClock.now < limit { try loop.runRound(waitAtMostMilliseconds: 100) }
        #expect(recorder.tags == [1, 3])
    }

    @Test("events reach the handler until it is deregistered, also within one round")
    func deregistration() throws {
        let loop = try EventLoop()
        let a = try SeqpacketSocket.Pair()
        let b = try SeqpacketSocket.Pair()
        final class Remover: EventHandler {
            var others: [EventLoop.Registration] = []
            let loop: EventLoop
            var calls = 0
            init(_ loop: EventLoop) { self.loop = loop }
            func ready(_ events: ReadyEvents) {
                calls += 1
                for other in others { loop.deregister(other) }
            }
        }
        let one = Remover(loop)
        let two = Remover(loop)
        one.others = [try loop.register(b.second.raw, [.read], two)]
        two.others = [try loop.register(a.second.raw, [.read], one)]
        try a.first.send([1])
        try b.first.send([1])
        try loop.runRound(waitAtMostMilliseconds: 1000)
        #expect(one.calls + two.calls == 1)
    }

    @Test("deferred work runs once after the events of the round")
    func deferred() throws {
        let loop = try EventLoop()
        let recorder = Recorder()
        loop.afterRound(recorder)
        try loop.runRound(waitAtMostMilliseconds: 1000)
        #expect(recorder.deferred == 1)
    }

    @Test("what comes while events are delivered is delivered before the deferred work of the round")
    func gathering() throws {
        final class Gatherer: EventHandler, DeferredHandler {
            let loop: EventLoop
            let next: CInt
            var steps: [String] = []
            init(_ loop: EventLoop, next: CInt) {
                self.loop = loop
                self.next = next
            }
            func ready(_ events: ReadyEvents) {
                steps.append("event")
                // Once: the other socket becomes readable while the first one's event is delivered.
                if steps.count == 1 {
                    loop.afterRound(self)
                    #expect(send(next, [1], 1, CInt(MSG_NOSIGNAL)) == 1)
                }
            }
            func runDeferred() { steps.append("deferred") }
        }
        let loop = try EventLoop()
        let a = try SeqpacketSocket.Pair()
        let b = try SeqpacketSocket.Pair()
        let c = try SeqpacketSocket.Pair()
        let gatherer = Gatherer(loop, next: c.first.raw)
        for raw in [a.second.raw, b.second.raw, c.second.raw] {
            _ = try loop.register(raw, [.read, .edge], gatherer)
        }
        try a.first.send([1])
        try b.first.send([1])
        try loop.runRound(waitAtMostMilliseconds: 1000)
        #expect(gatherer.steps == ["event", "event", "event", "deferred"])
    }

    @Test("a descriptor closed with its registration is told nothing more, and its slot serves another")
    func closing() throws {
        let loop = try EventLoop()
        let recorder = Recorder()
        var raw: [CInt] = [0, 0]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0, &raw) == 0)
        // A copy keeps the file open: the kernel goes on reporting, and nobody is told.
        let copy = dup(raw[0])
        let registration = try loop.register(raw[0], [.read, .edge], recorder)
        loop.close(raw[0], registration)
        let other = try SeqpacketSocket.Pair()
        let second = Recorder()
        _ = try loop.register(other.second.raw, [.read, .edge], second)
        #expect(send(raw[1], [1], 1, CInt(MSG_NOSIGNAL)) == 1)
        try other.first.send([1])
        try loop.runRound(waitAtMostMilliseconds: 1000)
        #expect(recorder.events.isEmpty)
        #expect(second.events.count == 1)
        _ = close(copy)
        _ = close(raw[1])
    }

    @Test("jobs from other threads run on the loop's thread, all of them, in order")
    func jobs() async throws {
        let thread = try EventLoopThread(name: "test-loop") { _ in Recorder() }
        for tag in 0..<1000 { thread.submit { $0.tags.append(tag) } }
        let tags = await thread.perform { $0.tags }
        #expect(tags == Array(0..<1000))
        thread.stop()
        #expect(!thread.submit { _ in })
        #expect(await thread.perform { _ in 1 } == nil)
    }

    @Test("a state that cannot be made is the starter's error, and no thread is left")
    func failedStart() {
        #expect(throws: SystemError("no", code: EPERM)) {
            _ = try EventLoopThread<Int>(name: "test-fail") { _ in throw SystemError("no", code: EPERM) }
        }
    }

    @Test("the timer queue agrees with a sorted list under random use")
    func timerModel() {
        var queue = TimerQueue()
        var model: [(deadline: UInt64, tag: Int, id: TimerID)] = []
        let recorder = Recorder()
        var random = SystemRandomNumberGenerator()
        var now: UInt64 = 0
        for tag in 0..<5000 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<6:
                let deadline = now + UInt64.random(in: 0..<1000, using: &random)
                model.append((deadline, tag, queue.set(at: deadline, recorder, tag: tag)))
            case 6..<8:
                guard let index = model.indices.randomElement(using: &random) else { continue }
                queue.cancel(model.remove(at: index).id)
            default:
                now += UInt64.random(in: 0..<300, using: &random)
                var fired: Set<Int> = []
                while let due = queue.popDue(now) { fired.insert(due.tag) }
                #expect(fired == Set(model.filter { $0.deadline <= now }.map(\.tag)))
                model.removeAll { $0.deadline <= now }
            }
            #expect(queue.count == model.count)
            #expect(queue.next == model.map(\.deadline).min())
        }
    }
}

@Suite("TCP sockets")
struct SocketTests {
    @Test("a dual-stack socket reaches IPv4 and reports it as IPv4")
    func dualStack() throws {
        let listener = try Sockets.tcp(dualStack: true)
        try Sockets.bind(listener.raw, to: Endpoint(.anyV6, 0), dualStack: true)
        try Sockets.listen(listener.raw, backlog: 8)
        let port = try #require(Sockets.localEndpoint(listener.raw)).port
        let client = try Sockets.tcp(dualStack: false)
        _ = try Sockets.connect(client.raw, to: Endpoint(.loopbackV4, port), dualStack: false)
        var poller = pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0)
        #expect(poll(&poller, 1, 2000) == 1)
        guard let accepted = try Sockets.accept(listener.raw) else {
            Issue.record("nothing to accept")
            return
        }
        #expect(accepted.peer?.address == .loopbackV4)
        #expect(Sockets.localEndpoint(accepted.descriptor.raw) == Endpoint(.loopbackV4, port))
        #expect(Sockets.originalDestination(accepted.descriptor.raw) == nil)
        let another = try Sockets.accept(listener.raw) != nil
        #expect(!another)
    }

    @Test("a refused connection says what was refused")
    func refused() throws {
        let listener = try Sockets.tcp(dualStack: false)
        try Sockets.bind(listener.raw, to: Endpoint(.loopbackV4, 0), dualStack: false)
        let target = try #require(Sockets.localEndpoint(listener.raw))
        let client = try Sockets.tcp(dualStack: false)
        do {
            if try !Sockets.connect(client.raw, to: target, dualStack: false) {
                var poller = pollfd(fd: client.raw, events: Int16(POLLOUT), revents: 0)
                #expect(poll(&poller, 1, 2000) == 1)
                #expect(Sockets.pendingError(client.raw) == ECONNREFUSED)
            }
        } catch {
            #expect(error.code == ECONNREFUSED)
            #expect(error.operation == "connect to \(target)")
        }
    }

    @Test("the longest round is known until it is asked for")
    func longestRound() throws {
        final class Slow: TimerHandler {
            func timerFired(tag: Int) {
                let end = MonotonicClock.now + UInt64(tag)
                while MonotonicClock.now < end {}
            }
        }
        let loop = try EventLoop()
        let slow = Slow()
        for nanoseconds in [3_000_000, 1_000] {
            _ = loop.schedule(afterNanoseconds: 0, slow, tag: nanoseconds)
            try loop.runRound(waitAtMostMilliseconds: 100)
        }
        #expect(loop.remote.longestRound.take() >= 3_000_000)
        #expect(loop.remote.longestRound.take() == 0)
        _ = loop.schedule(afterNanoseconds: 0, slow, tag: 10_000)
        try loop.runRound(waitAtMostMilliseconds: 100)
        #expect(loop.remote.longestRound.take() >= 10_000)
    }
}
