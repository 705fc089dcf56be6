import DequeModule
import Glibc
import Handover
import LinuxNetwork
import Observability

/// An outgoing socket made in a pod's network namespace, mark and transparency already set.
struct PreparedSocket: ~Copyable {
    let descriptor: FileDescriptor
    /// AF_INET6 with V6ONLY off: reaches both families. Else IPv4 alone.
    let dualStack: Bool

    consuming func takeDescriptor() -> FileDescriptor { descriptor }
}

/// Who waits for a socket.
protocol StockWaiter: AnyObject {
    /// False once it has given up: it is passed over.
    var wantsSocket: Bool { get }
    func received(_ socket: consuming PreparedSocket)
}

/// One worker's hand in a pod's stock of outgoing sockets. The keeper fills the queue; each worker takes a packet of
/// them at a time, so that most connections cost no message at all.
final class SocketStock: EventHandler {
    private struct Loose {
        let fd: CInt
        let dualStack: Bool
    }

    static let waiterLimit = 4096

    private let loop: EventLoop
    private var pod: HandedPod
    /// For the stock of UDP sockets.
    private var dns: DNSSockets?
    private var loose: [Loose] = []
    private var waiters: Deque<any StockWaiter> = []
    private var registration: EventLoop.Registration?
    private var closed = false
    private let limits: SilenceLimits
    /// How often a connection found the stock empty.
    private let waits: Counter
    /// For sockets that are bound to a client's address.
    let sourcePorts: SourcePorts

    /// - Parameters:
    ///   - limits: For TCP sockets that are to have others than the keeper gives them.
    ///   - dns: For the stock of UDP sockets instead of that of TCP sockets.
    init(
        loop: EventLoop, pod: HandedPod, waits: Counter, limits: SilenceLimits = .standard, dns: DNSSockets? = nil
    ) {
        self.limits = limits
        self.waits = waits
        self.loop = loop
        self.pod = pod
        self.dns = dns
        sourcePorts = pod.sourcePorts
    }

    deinit { closeLoose() }

    /// A socket at once, if there is one.
    func take() -> PreparedSocket? {
        guard !closed else { return nil }
        if loose.isEmpty { refill() }
        return loose.popLast().map {
            PreparedSocket(descriptor: FileDescriptor(owning: $0.fd), dualStack: $0.dualStack)
        }
    }

    /// Queues for the next socket. The waiter brings its own deadline.
    /// - Returns: False when too many wait already.
    func wait(_ waiter: any StockWaiter) -> Bool {
        guard !closed, waiters.count < Self.waiterLimit else { return false }
        waits.increment()
        waiters.append(waiter)
        if registration == nil {
            do {
                registration = try loop.register(queue, [.read], self)
            } catch {
                waiters.removeLast()
                return false
            }
        }
        return true
    }

    func ready(_ events: ReadyEvents) {
        while let waiter = waiters.first {
            guard waiter.wantsSocket else {
                waiters.removeFirst()
                continue
            }
            guard let socket = take() else { break }
            waiters.removeFirst()
            waiter.received(socket)
        }
        if waiters.isEmpty || events.contains(.hangup) { unwatch() }
    }

    /// Another keeper fills another queue; who waits at the old one waits at the new.
    func restock(from pod: HandedPod) {
        unwatch()
        self.pod = pod
        if dns != nil { dns = pod.dns }
        guard !waiters.isEmpty else { return }
        do {
            registration = try loop.register(queue, [.read], self)
        } catch {
            // They run into their deadlines, as without a keeper.
            return
        }
    }

    private var queue: CInt { dns?.stockDescriptor ?? pod.stock.raw }

    /// Lets the sockets go; waiters run into their deadlines.
    func close() {
        closed = true
        unwatch()
        waiters = []
        closeLoose()
    }

    private func refill() {
        do {
            let limit = StockMessage.maximumSockets
            guard
                var packet = try dns != nil ? dns?.receiveFromStock(limit: limit) : pod.stock.receive(limit: limit),
                !packet.truncated
            else { return }
            let message = try StockMessage(decoding: packet.bytes, descriptors: packet.descriptors.count)
            for family in message.families {
                guard let descriptor = packet.takeDescriptor() else { return }
                if limits != .standard { limits.apply(to: descriptor.raw) }
                loose.append(Loose(fd: descriptor.release(), dualStack: family == .v6))
            }
        } catch {
            // A packet that cannot be read is dropped with its descriptors; the keeper sends more.
            return
        }
    }

    private func unwatch() {
        if let registration { loop.deregister(registration) }
        registration = nil
    }

    private func closeLoose() {
        for socket in loose { _ = Glibc.close(socket.fd) }
        loose = []
    }
}
