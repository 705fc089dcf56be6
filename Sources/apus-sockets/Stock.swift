import CLinux
import Glibc
import Handover
import LinuxNetwork

/// A pod's stock: prepared outgoing sockets in a SEQPACKET pair whose far end each ztunnel gets a copy of. The pair
/// lives as long as the pod: what a dead ztunnel has not taken is there for the next.
final class Stock: EventHandler, TimerHandler {
    enum Kind { case stream, datagram }
    private enum Tag { static let rest = 0, retry = 1 }

    private let loop: EventLoop
    private let log: Log
    private let uid: String
    private let kind: Kind
    private let namespace: SharedNamespace
    private let dualStack: Bool
    private let pair: StockPair
    private let packetCost: CInt
    private var registration: EventLoop.Registration?
    private var timers: [Int: TimerID] = [:]
    private var gauge: StockGauge
    /// A ztunnel has shut the pair down: no socket gets through any more.
    private(set) var isBroken = false

    /// The end that ztunnel gets a copy of.
    var descriptor: CInt { pair.ends.second.raw }
    /// The end that stays the keeper's.
    var source: CInt { pair.ends.first.raw }
    /// How many sockets there should be at present.
    var target: Int { gauge.target }

    /// - Parameter inherited: The pair of the keeper before, with what is in it.
    init(
        _ loop: EventLoop, _ log: Log, uid: String, kind: Kind, namespace: SharedNamespace, dualStack: Bool,
        inherited: StockPair? = nil
    ) throws {
        self.loop = loop
        self.log = log
        self.uid = uid
        self.kind = kind
        self.namespace = namespace
        self.dualStack = dualStack
        packetCost = try Self.costOfPacket()
        if let inherited {
            pair = inherited
            gauge = StockGauge(
                target: inherited.target, packetsLeft: Int(try Self.unread(inherited.ends.first) / packetCost))
            if gauge.target > StockGauge.least { set(Tag.rest, after: .seconds(30)) }
            // What goes wrong from here on is tried again: a pod is not lost for it.
            topUp()
        } else {
            // Filled at the loop's next look at it, behind the answer to who asked for the pod: nobody waits for sockets before
            // there are connections.
            pair = StockPair(try SeqpacketSocket.Pair())
            gauge = StockGauge()
        }
        registration = try loop.register(source, [.write, .edge], self)
    }

    /// What one unread packet counts in SIOCOUTQ; all of ours, of 1 to 32 bytes, count the same.
    private static func costOfPacket() throws(SystemError) -> CInt {
        let pair = try SeqpacketSocket.Pair()
        try pair.first.send([UInt8](repeating: 0, count: StockMessage.maximumSockets))
        return max(1, try unread(pair.first))
    }

    private static func unread(_ socket: borrowing SeqpacketSocket) throws(SystemError) -> CInt {
        var value: CInt = 0
        let raw = socket.raw
        try check("SIOCOUTQ") { apus_ioctl_int(raw, UInt(TIOCOUTQ), &value) }
        return value
    }

    // MARK: Keeping it full

    /// ztunnel took a packet (or the keeper took one back): the kernel reports each as an edge.
    func ready(_ events: ReadyEvents) {
        if events.contains(.hangup) { markBroken() }
        topUp()
    }

    private func topUp() {
        guard !isBroken else { return }
        do {
            let left = try Self.unread(pair.ends.first) / packetCost
            let taken = gauge.observe(packetsLeft: Int(left), at: loop.now)
            if taken, gauge.target > StockGauge.least { set(Tag.rest, after: .seconds(30)) }
            try fill()
        } catch let error as SystemError where error.code == EPIPE {
            markBroken()
        } catch {
            log.error("cannot refill a pod's stock; trying again in 100 ms", ["uid": uid, "error": error])
            set(Tag.retry, after: .milliseconds(100))
        }
    }

    private func fill() throws {
        while let count = gauge.nextPacket, try send(count) { gauge.sent(count) }
    }

    /// - Returns: `false` when the kernel's bound is reached; the next packet that is taken calls again.
    private func send(_ count: Int) throws -> Bool {
        let (kind, dualStack) = (kind, dualStack)
        let sockets = try namespace.run { try PreparedSockets(count, kind, dualStack: dualStack) }
        let message = StockMessage(Array(repeating: dualStack ? .v6 : .v4, count: count))
        return try offer(message.encoded(), sockets.raw)
    }

    private func offer(_ bytes: [UInt8], _ descriptors: [CInt]) throws(SystemError) -> Bool {
        do {
            try pair.ends.first.send(bytes, descriptors: descriptors)
            return true
        } catch {
            guard error.code == EAGAIN else { throw error }
            return false
        }
    }

    private func markBroken() {
        if !isBroken { log.error("ztunnel has shut a pod's stock down; the next one gets another", ["uid": uid]) }
        isBroken = true
    }

    // MARK: Rest and end

    func timerFired(tag: Int) {
        timers[tag] = nil
        guard tag == Tag.rest else { return topUp() }
        if gauge.rest() { set(Tag.rest, after: .seconds(30)) }
        while gauge.surplus, takeBack() { gauge.tookBack() }
    }

    private func set(_ tag: Int, after delay: Duration) {
        if let old = timers[tag] { loop.cancel(old) }
        timers[tag] = loop.schedule(after: delay, self, tag: tag)
    }

    /// Receives a packet from the far end, which closes the sockets in it.
    private func takeBack() -> Bool {
        do {
            guard let packet = try pair.ends.second.receive(limit: StockMessage.maximumSockets) else { return false }
            // An empty packet is the end of a pair that was shut down, and would come for ever.
            return !packet.bytes.isEmpty
        } catch {
            log.error("cannot take sockets back from a pod's stock", ["uid": uid, "error": error])
            return false
        }
    }

    /// Ends the stock: nothing is left in it for whoever still has a copy of the far end, who reads its end.
    func end() {
        for timer in timers.values { loop.cancel(timer) }
        timers = [:]
        if let registration { loop.deregister(registration) }
        registration = nil
        while takeBack() {}
        Sockets.shutDown(source)
    }
}

/// A stock's pair: the keeper writes to the first end; ztunnel has copies of the second.
final class StockPair {
    let ends: SeqpacketSocket.Pair
    /// How many sockets there should be in it, where another keeper filled it.
    let target: Int

    init(_ ends: consuming SeqpacketSocket.Pair, target: Int = StockGauge.least) {
        self.ends = ends
        self.target = target
    }
}

/// Sockets with all that ztunnel has no privilege for, ours until they have been sent.
private final class PreparedSockets {
    private(set) var raw: [CInt] = []

    /// Makes them in the calling thread's namespace.
    init(_ count: Int, _ kind: Stock.Kind, dualStack: Bool) throws {
        for _ in 0..<count { if kind == .stream { try addStream(dualStack) } else { try addDatagram(dualStack) } }
    }

    deinit { for socket in raw { _ = close(socket) } }

    private func addDatagram(_ dualStack: Bool) throws {
        let socket = try Sockets.udp(dualStack: dualStack)
        try Sockets.setMark(socket.raw, Mark.ztunnel)
        try Sockets.sealIfPossible(socket.raw)
        raw.append(socket.release())
    }

    private func addStream(_ dualStack: Bool) throws {
        let socket = try Sockets.tcp(dualStack: dualStack)
        try Sockets.setMark(socket.raw, Mark.ztunnel)
        try Sockets.sealIfPossible(socket.raw)
        try Sockets.setTransparent(socket.raw)
        try Sockets.setBindAddressNoPort(socket.raw)
        try Sockets.setNoDelay(socket.raw)
        try Sockets.setKeepAlive(socket.raw, idle: 180, interval: 180, count: 9)
        raw.append(socket.release())
    }
}
