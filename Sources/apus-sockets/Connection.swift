import Glibc
import LinuxNetwork

/// What the agent's and ztunnel's connections have in common: packets in, packets out, an end.
class Connection: EventHandler, TimerHandler {
    let loop: EventLoop
    let log: Log
    let peer: PeerCredentials
    private let socket: SeqpacketSocket
    private var registration: EventLoop.Registration?
    private var interest = Interest.read
    private var timers: [Int: TimerID] = [:]
    private(set) var isOpen = true
    /// While a successor takes over nothing is heard or expected: what arrives waits in the socket.
    private(set) var isHeld = false

    /// The longest packet in bytes, and the most descriptors, the peer may send at a time.
    var packetLimit: (bytes: Int, descriptors: Int) { (1024, 0) }

    init(_ loop: EventLoop, _ log: Log, _ socket: consuming SeqpacketSocket, _ peer: PeerCredentials) throws {
        self.loop = loop
        self.log = log
        self.socket = socket
        self.peer = peer
        registration = try loop.register(self.socket.raw, .read, self)
    }

    // MARK: For subclasses

    /// One packet, whole. Throwing ends the connection.
    func received(_ packet: consuming Packet) throws {}
    /// The socket takes packets again.
    func writable() {}
    func expired(tag: Int) {}
    /// The connection is closed, by either side.
    func ended() {}

    func setTimer(_ tag: Int, after delay: Duration) {
        cancelTimer(tag)
        timers[tag] = loop.schedule(after: delay, self, tag: tag)
    }

    /// Leaves a timer that is running as it is.
    func setTimerOnce(_ tag: Int, after delay: Duration) {
        if timers[tag] == nil { setTimer(tag, after: delay) }
    }

    func cancelTimer(_ tag: Int) {
        if let timer = timers.removeValue(forKey: tag) { loop.cancel(timer) }
    }

    func send(_ bytes: [UInt8], descriptors: [CInt] = []) throws(SystemError) {
        try socket.send(bytes, descriptors: descriptors)
    }

    /// Which way to wait: not reading is how a peer that does not take its answers is held up.
    func wait(reading: Bool, writing: Bool) {
        interest = reading ? .read : []
        if writing { interest.formUnion(.write) }
        guard let registration else { return }
        do {
            try loop.modify(registration, interest)
        } catch {
            close(because: error)
        }
    }

    func hold() {
        isHeld = true
        if let registration { loop.deregister(registration) }
        registration = nil
    }

    func goOn() {
        isHeld = false
        guard isOpen else { return }
        do {
            registration = try loop.register(socket.raw, interest, self)
        } catch {
            close(because: error)
        }
    }

    // MARK: Events

    func ready(_ events: ReadyEvents) {
        if events.contains(.writable) { writable() }
        if isOpen, !events.isDisjoint(with: [.readable, .readHangup, .hangup, .error]) { receive() }
    }

    /// Takes what has arrived, up to a bound: the other peers want their turn, too.
    func receive() {
        for _ in 0..<16 where isOpen {
            do {
                guard
                    let packet = try socket.receive(limit: packetLimit.bytes, descriptorLimit: packetLimit.descriptors)
                else { return }
                if packet.bytes.isEmpty, packet.descriptors.isEmpty { return close(because: nil) }
                guard !packet.truncated else {
                    throw SystemError("a packet with more bytes or descriptors than allowed", code: EMSGSIZE)
                }
                try received(packet)
            } catch {
                close(because: error)
            }
        }
    }

    func timerFired(tag: Int) {
        timers[tag] = nil
        if isHeld { return setTimer(tag, after: .seconds(1)) }
        expired(tag: tag)
    }

    /// Ends the connection now; the descriptor goes with the last reference.
    func close(because error: (any Error)?) {
        guard isOpen else { return }
        isOpen = false
        if let error { log.warn("closing a connection", ["error": error, "pid": peer.pid]) }
        for timer in timers.values { loop.cancel(timer) }
        timers = [:]
        if let registration { loop.deregister(registration) }
        registration = nil
        Sockets.shutDown(socket.raw)
        ended()
    }

    /// What had arrived before the end, which nothing can follow; `nil` when there was nothing.
    func receiveLast() -> Packet? {
        // A socket that cannot be read has nothing for us.
        try? socket.receive(limit: packetLimit.bytes, descriptorLimit: packetLimit.descriptors)
    }
}
