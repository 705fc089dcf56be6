import Glibc
import LinuxNetwork

/// Accepts connections of one user at a unix socket, whatever happens: others are turned away, counted and logged (one
/// line a second at most), and a full descriptor table makes it pause rather than spin.
final class Acceptor: EventHandler, TimerHandler {
    private let loop: EventLoop
    private let log: Log
    private let name: String
    private let socket: SeqpacketSocket
    private let allowedUID: UInt32
    private let serve: (consuming SeqpacketSocket, PeerCredentials) throws -> Void
    private var registration: EventLoop.Registration?
    /// While a successor takes over: who comes waits in the queue.
    private var isHeld = false
    /// Held back so that, with no descriptor left, one more peer gets in: the agent may be about to free some.
    private var spare: CInt = -1
    private var refused = 0
    private var lastLine: UInt64 = 0

    /// `serve` takes over each connection of `allowedUID`, or throws why not.
    init(
        _ loop: EventLoop, _ log: Log, name: String, socket: consuming SeqpacketSocket, allowedUID: UInt32,
        serve: @escaping (consuming SeqpacketSocket, PeerCredentials) throws -> Void
    ) throws {
        self.loop = loop
        self.log = log
        self.name = name
        self.socket = socket
        self.allowedUID = allowedUID
        self.serve = serve
        openSpare()
        registration = try loop.register(self.socket.raw, .read, self)
    }

    deinit { if spare >= 0 { _ = close(spare) } }

    /// The listener, for a successor to go on with.
    var descriptor: CInt { socket.raw }

    func hold() {
        isHeld = true
        if let registration { loop.deregister(registration) }
        registration = nil
    }

    func goOn() {
        isHeld = false
        if registration == nil { timerFired(tag: 0) }
    }

    func ready(_ events: ReadyEvents) {
        // A bound: the other handlers want their turn, and a level-triggered listener calls again.
        for _ in 0..<16 {
            do {
                guard let peer = try socket.accept() else { return }
                let credentials = try peer.peerCredentials()
                guard credentials.uid == allowedUID else {
                    refuse("the peer has the wrong user", credentials)
                    continue
                }
                do {
                    try serve(peer, credentials)
                } catch {
                    refuse("\(error)", credentials)
                }
            } catch {
                pause(because: error)
                return
            }
        }
    }

    func refuse(_ reason: String, _ peer: PeerCredentials) {
        refused += 1
        guard mayLog() else { return }
        log.warn(
            "connection refused",
            ["socket": name, "reason": reason, "pid": peer.pid, "uid": peer.uid, "refused": refused])
    }

    private func mayLog() -> Bool {
        guard lastLine == 0 || loop.now - lastLine >= 1_000_000_000 else { return false }
        lastLine = loop.now
        return true
    }

    private func pause(because error: any Error) {
        if mayLog() { log.error("cannot accept; trying again in 100 ms", ["socket": name, "error": error]) }
        if spare >= 0 { _ = close(spare) }
        spare = -1
        if let registration { loop.deregister(registration) }
        registration = nil
        _ = loop.schedule(after: .milliseconds(100), self)
    }

    func timerFired(tag: Int) {
        guard !isHeld, registration == nil else { return }
        do {
            registration = try loop.register(socket.raw, .read, self)
        } catch {
            return pause(because: error)
        }
        ready(.readable)
        openSpare()
    }

    private func openSpare() {
        if spare < 0 { spare = open("/dev/null", O_RDONLY | O_CLOEXEC) }
    }
}
