import Glibc
import LinuxNetwork

/// Bytes between two TCP sockets in both directions, half-close kept, for traffic that is not tunnelled.
///
/// Data goes through one of the worker's pooled buffers; only what a slow receiver would not take is kept, and nothing
/// more is read for it until it has.
final class PlainRelay: DeferredHandler {
    struct Outcome {
        /// From the first socket to the second.
        var forward: UInt64 = 0
        /// From the second to the first.
        var backward: UInt64 = 0
        /// `nil` when both directions ended in order.
        var error: SystemError?
    }

    /// One of the two sockets, and what is on its way *to* it.
    private final class Side: EventHandler {
        let descriptor: FileDescriptor
        unowned let relay: PlainRelay
        var registration: EventLoop.Registration?
        var readable = true
        var writable = true
        var sawHangup = false
        /// No more will be read from here.
        var readEnded = false
        /// FIN has been sent to here.
        var writeEnded = false
        /// What the socket has not taken yet.
        var pending: [UInt8] = []
        var pendingStart = 0
        var received: UInt64 = 0

        init(_ descriptor: consuming FileDescriptor, _ relay: PlainRelay) {
            self.descriptor = descriptor
            self.relay = relay
        }

        var hasPending: Bool { pendingStart < pending.count }

        func ready(_ events: ReadyEvents) {
            if !events.isDisjoint(with: [.readable, .readHangup, .hangup, .error]) { readable = true }
            if !events.isDisjoint(with: [.readHangup, .hangup, .error]) { sawHangup = true }
            if !events.isDisjoint(with: [.writable, .error, .hangup]) { writable = true }
            relay.pump()
        }
    }

    /// Bytes one direction may move before others get their turn.
    private static let turn = 1 << 20

    private let loop: EventLoop
    private var first: Side?
    private var second: Side?
    private let onBytes: (_ forward: Bool, _ count: Int) -> Void
    private var completion: ((Outcome) -> Void)?
    private var isDeferred = false

    init(loop: EventLoop, onBytes: @escaping (Bool, Int) -> Void, completion: @escaping (Outcome) -> Void) {
        self.loop = loop
        self.onBytes = onBytes
        self.completion = completion
    }

    /// Takes both sockets and begins. The completion is called once, never from within this call.
    func start(_ a: consuming FileDescriptor, _ b: consuming FileDescriptor) {
        let first = Side(a, self)
        let second = Side(b, self)
        self.first = first
        self.second = second
        do {
            first.registration = try loop.register(first.descriptor.raw, .connection, first)
            second.registration = try loop.register(second.descriptor.raw, .connection, second)
        } catch {
            failure = error
        }
        runLater()
    }

    private var failure: SystemError?

    /// Ends both directions at once; the peers see a reset.
    func abort() {
        guard let first, let second else { return }
        Sockets.resetOnClose(first.descriptor.raw)
        Sockets.resetOnClose(second.descriptor.raw)
        finish(nil)
    }

    func runDeferred() {
        isDeferred = false
        if let failure { return finish(failure) }
        pump()
    }

    private func runLater() {
        guard !isDeferred else { return }
        isDeferred = true
        loop.afterRound(self)
    }

    private func pump() {
        guard let first, let second else { return }
        do throws(SystemError) {
            try move(from: first, to: second, forward: true)
            try move(from: second, to: first, forward: false)
        } catch {
            // A reset on one side is passed on as one.
            Sockets.resetOnClose(first.descriptor.raw)
            Sockets.resetOnClose(second.descriptor.raw)
            return finish(error)
        }
        if first.writeEnded, second.writeEnded { finish(nil) }
    }

    private func move(from source: Side, to sink: Side, forward: Bool) throws(SystemError) {
        try flush(sink, forward: forward)
        guard !sink.hasPending else { return }
        var budget = Self.turn
        if source.readable, !source.readEnded {
            let buffer = loop.pool.borrow()
            defer { loop.pool.give(buffer) }
            while source.readable, !source.readEnded, !sink.hasPending {
                guard budget > 0 else {
                    runLater()
                    break
                }
                let got = recv(source.descriptor.raw, buffer.baseAddress, buffer.count, 0)
                if got > 0 {
                    budget -= got
                    source.received += UInt64(got)
                    onBytes(forward, got)
                    // A short read has emptied the socket, unless the end of the stream waits behind it.
                    if got < buffer.count, !source.sawHangup { source.readable = false }
                    try write(UnsafeRawBufferPointer(rebasing: buffer[..<got]), to: sink)
                } else if got == 0 {
                    source.readEnded = true
                } else if errno == EAGAIN {
                    source.readable = false
                } else if errno != EINTR {
                    throw SystemError("receive")
                }
            }
        }
        if source.readEnded, !sink.hasPending, !sink.writeEnded {
            Sockets.shutdownWrite(sink.descriptor.raw)
            sink.writeEnded = true
        }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, to sink: Side) throws(SystemError) {
        var sent = 0
        while sent < bytes.count {
            let count = send(sink.descriptor.raw, bytes.baseAddress! + sent, bytes.count - sent, CInt(MSG_NOSIGNAL))
            if count >= 0 {
                sent += count
            } else if errno == EAGAIN {
                sink.writable = false
                sink.pending = Array(bytes[sent...])
                sink.pendingStart = 0
                return
            } else if errno != EINTR {
                throw SystemError("send")
            }
        }
    }

    private func flush(_ sink: Side, forward: Bool) throws(SystemError) {
        while sink.hasPending, sink.writable {
            let count = sink.pending.withUnsafeBytes { bytes in
                send(
                    sink.descriptor.raw, bytes.baseAddress! + sink.pendingStart, bytes.count - sink.pendingStart,
                    CInt(MSG_NOSIGNAL))
            }
            if count >= 0 {
                sink.pendingStart += count
            } else if errno == EAGAIN {
                sink.writable = false
            } else if errno != EINTR {
                throw SystemError("send")
            }
        }
        if !sink.hasPending, !sink.pending.isEmpty {
            sink.pending = []
            sink.pendingStart = 0
        }
    }

    private func finish(_ error: SystemError?) {
        guard let completion, let first, let second else { return }
        self.completion = nil
        if let registration = first.registration { loop.deregister(registration) }
        if let registration = second.registration { loop.deregister(registration) }
        let outcome = Outcome(forward: first.received, backward: second.received, error: error)
        self.first = nil
        self.second = nil
        completion(outcome)
    }
}
