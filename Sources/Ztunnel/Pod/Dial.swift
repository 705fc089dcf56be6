import Addressing
import Glibc
import LinuxNetwork

/// A connection attempt from a pod, with a socket of its stock.
///
/// Reports exactly once, later or at once, unless it is cancelled.
final class Dial: StockWaiter, EventHandler, TimerHandler {
    /// Why no connection came about.
    struct Failure: Error, CustomStringConvertible {
        enum Code: String { case noSocket, timeout, refused, failed, family }
        let code: Code
        let description: String
    }

    typealias Completion = (Result<DialedSocket, Failure>) -> Void

    private enum State {
        case idle
        case waiting
        case connecting(fd: CInt, registration: EventLoop.Registration)
        case done
    }

    private let loop: EventLoop
    private let destination: Endpoint
    private let source: IPAddress?
    private var state = State.idle
    private var timer: TimerID?
    private var completion: Completion?
    private var startedAt: UInt64
    private var stock: SocketStock?
    /// Connects from the pod's own address where the other cannot be had.
    var mayGoUnbound = false
    /// Holds the last packet of the handshake back until the client's first bytes, which say the same: one packet and one
    /// wake-up of the application less. Until then the application does not know of the connection, so whoever sets this
    /// sees to it that the packet goes after ``heldBack`` in any case (``HBONEStream/acknowledge()``).
    var clientSpeaksFirst = false
    /// The kernel itself would wait for 200 ms.
    static let heldBack: Duration = .milliseconds(5)
    private var attempts = 0
    /// A socket whose port is in use to the destination is of no use any more; so many are given up for one connection.
    private static let attemptLimit = 3

    /// - Parameter source: The address to connect from, which need not be the pod's own; `nil` for the pod's own.
    init(loop: EventLoop, to destination: Endpoint, from source: IPAddress?, completion: @escaping Completion) {
        self.loop = loop
        self.destination = destination
        self.source = source
        self.completion = completion
        startedAt = loop.now
    }

    /// Begins. The attempt ends after `timeout` at the latest, waiting for a socket included.
    func start(from stock: SocketStock, timeout: Duration) {
        timer = loop.schedule(after: timeout, self)
        self.stock = stock
        takeSocket(from: stock)
    }

    private func takeSocket(from stock: SocketStock) {
        if let socket = stock.take() {
            connect(socket)
        } else if stock.wait(self) {
            state = .waiting
        } else {
            finish(.failure(Failure(code: .noSocket, description: "too many connections wait for a socket of the pod")))
        }
    }

    /// Gives up silently.
    func cancel() {
        completion = nil
        close()
    }

    var wantsSocket: Bool { if case .waiting = state { true } else { false } }

    func received(_ socket: consuming PreparedSocket) { connect(socket) }

    private func connect(_ socket: consuming PreparedSocket) {
        let dualStack = socket.dualStack
        guard destination.address.isV4 || dualStack else {
            return finish(
                .failure(
                    Failure(code: .family, description: "the pod has no IPv6, and \(destination) is an IPv6 address")))
        }
        let fd = socket.takeDescriptor().release()
        do {
            if let source { try bind(fd, as: source, dualStack: dualStack) }
            if clientSpeaksFirst { Sockets.holdAcknowledgement(fd) }
            // Towards an app in the same namespace the handshake is over when connect() returns, though it says that it has
            // begun; asking again costs less than being told.
            for _ in 0..<2 where try Sockets.connect(fd, to: destination, dualStack: dualStack) {
                state = .done
                return finish(.success(DialedSocket(fd)))
            }
            state = .connecting(fd: fd, registration: try loop.register(fd, .connection, self))
        } catch {
            _ = Glibc.close(fd)
            if error.code == EADDRNOTAVAIL, attempts < Self.attemptLimit, let stock {
                attempts += 1
                stock.sourcePorts.wasInUse()
                return takeSocket(from: stock)
            }
            finish(.failure(Self.failure(error, destination)))
        }
    }

    private func bind(_ fd: CInt, as source: IPAddress, dualStack: Bool) throws(SystemError) {
        do throws(SystemError) {
            try bind(fd, to: source, dualStack: dualStack)
        } catch {
            // The socket is not transparent, or the address is of a family that it has not.
            guard mayGoUnbound, [EADDRNOTAVAIL, EACCES, EPERM, EINVAL].contains(error.code) else { throw error }
        }
    }

    /// Takes the client's address, and a port that no client of that address is likely to use (``SourcePorts``).
    private func bind(_ fd: CInt, to source: IPAddress, dualStack: Bool) throws(SystemError) {
        // Several connections may share a port, to different destinations; connect() sees to it that they differ.
        try Sockets.setReuseAddress(fd)
        // The app may listen on one or the other.
        for _ in 0..<4 {
            guard let port = stock?.sourcePorts.take() else { break }
            do throws(SystemError) {
                return try Sockets.bind(fd, to: Endpoint(source, port), dualStack: dualStack)
            } catch {
                guard error.code == EADDRINUSE else { throw error }
            }
        }
        try Sockets.bind(fd, to: Endpoint(source, 0), dualStack: dualStack)
    }

    func ready(_ events: ReadyEvents) {
        guard case .connecting(let fd, let registration) = state else { return }
        guard !events.isDisjoint(with: [.writable, .error, .hangup]) else { return }
        loop.deregister(registration)
        let code = Sockets.pendingError(fd)
        guard code == 0 else {
            _ = Glibc.close(fd)
            state = .done
            return finish(.failure(Self.failure(SystemError("connect to \(destination)", code: code), destination)))
        }
        state = .done
        finish(.success(DialedSocket(fd)))
    }

    func timerFired(tag: Int) {
        timer = nil
        let text =
            wantsSocket
            ? "no socket of the pod came in time; is apus-sockets running on the node?"
            : "connect to \(destination) timed out"
                + (destination.port == ZtunnelPort.hbone ? "; a NetworkPolicy may block port 15008" : "")
        finish(.failure(Failure(code: .timeout, description: text)))
    }

    private func finish(_ result: Result<DialedSocket, Failure>) {
        close()
        let completion = completion
        self.completion = nil
        stock = nil
        completion?(result)
    }

    private func close() {
        if let timer { loop.cancel(timer) }
        timer = nil
        if case .connecting(let fd, let registration) = state { loop.close(fd, registration) }
        state = .done
    }

    private static func failure(_ error: SystemError, _ destination: Endpoint) -> Failure {
        switch error.code {
        case ECONNREFUSED:
            Failure(code: .refused, description: "connect to \(destination): connection refused; nothing listens there")
        case ETIMEDOUT: Failure(code: .timeout, description: "connect to \(destination) timed out")
        default: Failure(code: .failed, description: "\(error)")
        }
    }
}

/// A connected socket on its way to its relay. Closed if nobody takes it.
final class DialedSocket {
    private var fd: CInt

    init(_ fd: CInt) { self.fd = fd }
    deinit { if fd >= 0 { _ = Glibc.close(fd) } }

    var raw: CInt { fd }

    /// Sends a few bytes that a new connection has room for.
    /// - Returns: Whether all of them went.
    func send(_ bytes: [UInt8]) -> Bool {
        Glibc.send(fd, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count
    }

    func take() -> FileDescriptor {
        defer { fd = -1 }
        return FileDescriptor(owning: fd)
    }
}
