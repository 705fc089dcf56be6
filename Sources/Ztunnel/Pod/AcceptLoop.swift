import Glibc
import LinuxNetwork

/// Takes connections off one of a pod's listeners, which all workers share: the kernel wakes one of them for each.
final class AcceptLoop: EventHandler, TimerHandler {
    typealias Accept = (_ connection: consuming Sockets.Accepted) -> Void

    /// Connections taken in a row before other descriptors of the worker get their turn.
    private static let turn = 32

    private let loop: EventLoop
    private let listener: CInt
    private let accept: Accept
    private var registration: EventLoop.Registration?
    private var pause: TimerID?

    init(loop: EventLoop, listener: CInt, accept: @escaping Accept) throws(SystemError) {
        self.loop = loop
        self.listener = listener
        self.accept = accept
        try watch()
    }

    private func watch() throws(SystemError) {
        // Level-triggered: what one turn leaves is told again, and another worker may take it.
        registration = try loop.register(listener, .accept, self)
    }

    func ready(_ events: ReadyEvents) {
        for _ in 0..<Self.turn {
            do {
                guard let connection = try Sockets.accept(listener) else { return }
                accept(connection)
            } catch {
                // Out of descriptors or memory: without a pause the loop would spin, since the queue stays full.
                return rest()
            }
        }
    }

    private func rest() {
        unwatch()
        pause = loop.schedule(after: .milliseconds(100), self)
    }

    func timerFired(tag: Int) {
        pause = nil
        do { try watch() } catch { rest() }
    }

    private func unwatch() {
        if let registration { loop.deregister(registration) }
        registration = nil
    }

    /// Takes no more. The listener stays the keeper's, and its queue waits.
    func close() {
        unwatch()
        if let pause { loop.cancel(pause) }
        pause = nil
    }
}
