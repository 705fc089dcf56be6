import Glibc
import Handover
import LinuxNetwork
import Logging

/// The stocks of the pods whose sockets are made here, all on one thread, which enters the pods' namespaces.
final class OwnStocks {
    enum Kind { case stream, datagram }

    private let loop: EventLoop
    private let logger: Logger
    private var stocks: [ObjectIdentifier: OwnStock] = [:]

    init(_ loop: EventLoop, logger: Logger) {
        self.loop = loop
        self.logger = logger
    }

    /// Keeps a stock filled until its far end is closed, which is when the pod has gone.
    func keep(
        _ near: SocketEnd, of kind: Kind, filledFrom network: PodNetwork, _ options: PodSockets.Options, for uid: String
    ) {
        do {
            let stock = try OwnStock(loop, logger, uid, kind, try near.take(), network, options) { [weak self] in
                self?.stocks[ObjectIdentifier($0)] = nil
            }
            stocks[ObjectIdentifier(stock)] = stock
        } catch {
            // The far end reads its end now, and connections of the pod fail with words for the operator.
            logger.error("no sockets can be made for a pod", metadata: ["uid": "\(uid)", "error": "\(error)"])
        }
    }
}

/// One end of a pair on its way to another thread, where it is taken once.
final class SocketEnd: Sendable {
    private let socket: SeqpacketSocket

    init(_ socket: consuming SeqpacketSocket) { self.socket = socket }

    func take() throws(SystemError) -> SeqpacketSocket {
        SeqpacketSocket(owning: try socket.descriptor.duplicate())
    }
}

/// The near end of one pod's stock, kept filled as the keeper does it: the kernel tells when a packet was taken.
private final class OwnStock: EventHandler, TimerHandler {
    private enum Tag { static let rest = 0, retry = 1 }

    private let loop: EventLoop
    private let logger: Logger
    private let uid: String
    private let kind: OwnStocks.Kind
    private let network: PodNetwork
    private let options: PodSockets.Options
    private let onEnd: (OwnStock) -> Void
    private let near: SeqpacketSocket
    private let packetCost: CInt
    private var registration: EventLoop.Registration?
    private var timers: [Int: TimerID] = [:]
    private var gauge = StockGauge()

    init(
        _ loop: EventLoop, _ logger: Logger, _ uid: String, _ kind: OwnStocks.Kind, _ near: consuming SeqpacketSocket,
        _ network: PodNetwork, _ options: PodSockets.Options, onEnd: @escaping (OwnStock) -> Void
    ) throws {
        self.kind = kind
        self.loop = loop
        self.logger = logger
        self.uid = uid
        self.network = network
        self.options = options
        self.onEnd = onEnd
        self.near = near
        packetCost = try Self.costOfPacket()
        try fill()
        registration = try loop.register(self.near.raw, [.write, .edge], self)
    }

    /// What one unread packet counts in SIOCOUTQ; all of ours, of 1 to 32 bytes, count the same.
    private static func costOfPacket() throws(SystemError) -> CInt {
        let pair = try SeqpacketSocket.Pair()
        try pair.first.send([UInt8](repeating: 0, count: StockMessage.maximumSockets))
        return max(1, try pair.first.unreadByPeer())
    }

    func ready(_ events: ReadyEvents) {
        if events.contains(.hangup) { return end() }
        topUp()
    }

    func timerFired(tag: Int) {
        timers[tag] = nil
        // Sockets beyond the target go as they are taken; a resting stock is not worth reading back.
        guard tag == Tag.rest else { return topUp() }
        if gauge.rest() { set(Tag.rest, after: .seconds(30)) }
    }

    private func topUp() {
        do {
            let left = try near.unreadByPeer() / packetCost
            let taken = gauge.observe(packetsLeft: Int(left), at: loop.now)
            if taken, gauge.target > StockGauge.least { set(Tag.rest, after: .seconds(30)) }
            try fill()
        } catch let error as SystemError where error.code == EPIPE {
            end()
        } catch {
            logger.error(
                "cannot refill a pod's stock of sockets; trying again in 100 ms",
                metadata: ["uid": "\(uid)", "error": "\(error)"])
            set(Tag.retry, after: .milliseconds(100))
        }
    }

    private func fill() throws {
        while let count = gauge.nextPacket, try send(count) { gauge.sent(count) }
    }

    /// - Returns: False when the kernel's bound is reached; the next packet that is taken calls again.
    private func send(_ count: Int) throws -> Bool {
        var sockets: [CInt] = []
        defer { for socket in sockets { _ = close(socket) } }
        let (kind, options) = (kind, options)
        try network.value.run { () throws(SystemError) in
            for _ in 0..<count {
                let socket = try kind == .stream ? PodSockets.outgoing(options) : PodSockets.outgoingDatagram(options)
                sockets.append(socket.release())
            }
        }
        let message = StockMessage(Array(repeating: options.dualStack ? .v6 : .v4, count: count))
        do throws(SystemError) {
            try near.send(message.encoded(), descriptors: sockets)
            return true
        } catch {
            guard error.code == EAGAIN else { throw error }
            return false
        }
    }

    private func set(_ tag: Int, after delay: Duration) {
        if let old = timers[tag] { loop.cancel(old) }
        timers[tag] = loop.schedule(after: delay, self, tag: tag)
    }

    private func end() {
        for timer in timers.values { loop.cancel(timer) }
        timers = [:]
        if let registration { loop.deregister(registration) }
        registration = nil
        onEnd(self)
    }
}
