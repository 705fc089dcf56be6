import Addressing
import Glibc
import LinuxNetwork

/// Opens connections at a fixed rate, whatever becomes of those before: each sends one line and waits for it to come
/// back. What is late is opened late but counted from when connect() was called.
final class LoadGenerator: TimerHandler {
    /// What each sends: it occurs nowhere else, so that it can be looked for on the wire.
    static let text = "a line of the load, which nobody else may read: 6f1c0f8e57d2"
    private static let line = Array("\(text)\n".utf8)
    /// How long a connection may take as a whole.
    private static let patience: UInt64 = 10_000_000_000
    /// Bound of connections under way; what is beyond waits its turn.
    private static let most = 20_000

    private let loop: EventLoop
    private let target: Endpoint
    private let interval: UInt64
    private let begin: UInt64
    private let end: UInt64
    private var opened = 0
    private var underWay = 0
    private var samples: [LoadReport.Sample] = []

    private init(_ loop: EventLoop, _ target: Endpoint, perSecond: Int, duration: Duration) {
        self.loop = loop
        self.target = target
        interval = 1_000_000_000 / UInt64(max(perSecond, 1))
        begin = MonotonicClock.now
        end = begin + UInt64(max(duration / .nanoseconds(1), 0))
    }

    /// Runs a load on the calling thread until the last connection is over.
    static func run(_ target: Endpoint, perSecond: Int, for duration: Duration) throws -> LoadReport {
        raiseDescriptorLimit()
        let loop = try EventLoop()
        let generator = LoadGenerator(loop, target, perSecond: perSecond, duration: duration)
        generator.timerFired(tag: 0)
        try loop.run()
        return LoadReport(samples: generator.samples)
    }

    func timerFired(tag: Int) {
        let now = MonotonicClock.now
        while underWay < Self.most {
            let due = begin + UInt64(opened) * interval
            guard due < end, due <= now else { break }
            opened += 1
            open()
        }
        let next = begin + UInt64(opened) * interval
        if next < end {
            _ = loop.schedule(afterNanoseconds: max(next > now ? next - now : 0, 1_000_000), self)
        } else if underWay == 0 {
            loop.stop()
        } else {
            // The last ones end by themselves or by their timers; this looks whether they have.
            _ = loop.schedule(afterNanoseconds: 20_000_000, self)
        }
    }

    private func open() {
        let started = MonotonicClock.now
        do throws(SystemError) {
            let dualStack = !target.address.isV4
            let socket = try Sockets.tcp(dualStack: dualStack)
            let raw = socket.raw
            _ = try Sockets.connect(raw, to: target, dualStack: dualStack)
            let connection = LoadConnection(owning: socket, started: started, loop: loop) { [self] in
                samples.append($0)
                underWay -= 1
            }
            try connection.begin(patience: Self.patience)
            underWay += 1
        } catch {
            samples.append(
                .init(started: started, ended: MonotonicClock.now, outcome: .connectFailed, error: error.code))
        }
    }

    /// One connection of a load: connecting, then the line out, then the line back.
    private final class LoadConnection: EventHandler, TimerHandler {
        private var descriptor: FileDescriptor?
        private let loop: EventLoop
        private var sample: LoadReport.Sample
        private let done: (LoadReport.Sample) -> Void
        private var registration: EventLoop.Registration?
        private var timer: TimerID?
        private var echoed: [UInt8] = []

        init(
            owning descriptor: consuming FileDescriptor, started: UInt64, loop: EventLoop,
            done: @escaping (LoadReport.Sample) -> Void
        ) {
            self.descriptor = consume descriptor
            self.loop = loop
            self.done = done
            sample = .init(started: started, ended: started, outcome: .silent)
        }

        private var raw: CInt { descriptor?.raw ?? -1 }

        func begin(patience: UInt64) throws(SystemError) {
            registration = try loop.register(raw, .connection, self)
            timer = loop.schedule(afterNanoseconds: patience, self)
        }

        func timerFired(tag: Int) {
            timer = nil
            finish(sample.connected == 0 ? .connectFailed : .silent, error: ETIMEDOUT)
        }

        func ready(_ events: ReadyEvents) {
            if sample.connected == 0 {
                guard !events.isDisjoint(with: [.writable, .error, .hangup]) else { return }
                let error = Sockets.pendingError(raw)
                guard error == 0 else { return finish(.connectFailed, error: error) }
                sample.connected = MonotonicClock.now
                let sent = LoadGenerator.line.withUnsafeBytes {
                    send(raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
                }
                guard sent == LoadGenerator.line.count else { return finish(.broken, error: errno) }
            }
            var buffer: (UInt64, UInt64) = (0, 0)
            while true {
                let count = recv(raw, &buffer, MemoryLayout.size(ofValue: buffer), 0)
                if count > 0 {
                    withUnsafeBytes(of: &buffer) { echoed += $0.prefix(count) }
                    guard echoed.count >= LoadGenerator.line.count else { continue }
                    return echoed == LoadGenerator.line ? finish(.served, error: 0) : finish(.broken, error: EBADMSG)
                } else if count == 0 {
                    return finish(.broken, error: 0)
                } else if errno == EAGAIN {
                    return
                } else if errno != EINTR {
                    return finish(.broken, error: errno)
                }
            }
        }

        private func finish(_ outcome: LoadReport.Outcome, error: Int32) {
            guard let registration else { return }
            self.registration = nil
            loop.deregister(registration)
            if let timer { loop.cancel(timer) }
            descriptor = nil
            sample.ended = MonotonicClock.now
            sample.outcome = outcome
            sample.error = error
            done(sample)
        }
    }
}
