import Addressing
import DNS
import Glibc
import LinuxNetwork

/// A question to one server over TCP (RFC 7766): a length in front of each message.
final class StreamAttempt: UpstreamAttempt, StockWaiter, EventHandler {
    private unowned let query: UpstreamQuery
    private let loop: EventLoop
    private let server: Endpoint
    private let id: UInt16
    private var fd: CInt = -1
    private var registration: EventLoop.Registration?
    private var isOver = false
    private var isConnected = false
    private var unsent: ArraySlice<UInt8> = []
    private var input: [UInt8] = []

    init(_ query: UpstreamQuery, to server: Endpoint, id: UInt16) {
        self.query = query
        loop = query.loop
        self.server = server
        self.id = id
    }

    deinit { cancel() }

    var wantsSocket: Bool { !isOver && fd < 0 }

    func start(from supply: any SocketSupply) {
        if let socket = supply.take() {
            received(socket)
        } else if !supply.wait(self) {
            query.failed("no socket of the pod can be had", in: self)
        }
    }

    func received(_ socket: consuming PreparedSocket) {
        let dualStack = socket.dualStack
        fd = socket.takeDescriptor().release()
        let bytes = query.query.bytes(id: id)
        unsent = [UInt8(bytes.count >> 8), UInt8(bytes.count & 0xff)] + bytes
        do {
            guard server.address.isV4 || dualStack else {
                throw SystemError("ask \(server) from a pod without IPv6", code: EAFNOSUPPORT)
            }
            _ = try Sockets.connect(fd, to: server, dualStack: dualStack)
            registration = try loop.register(fd, .connection, self)
        } catch {
            query.failed("\(error)", in: self)
        }
    }

    func ready(_ events: ReadyEvents) {
        if !isConnected {
            let code = Sockets.pendingError(fd)
            guard code == 0 else {
                return query.failed("\(SystemError("connect to \(server)", code: code))", in: self)
            }
            guard events.contains(.writable) else { return }
            isConnected = true
        }
        if !unsent.isEmpty, events.contains(.writable) { write() }
        if !isOver, !events.isDisjoint(with: [.readable, .readHangup, .hangup, .error]) { read() }
    }

    private func write() {
        while !unsent.isEmpty {
            let sent = unsent.withUnsafeBytes { send(fd, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            if sent > 0 {
                unsent = unsent.dropFirst(sent)
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                return query.failed("\(SystemError("ask \(server)"))", in: self)
            }
        }
    }

    private func read() {
        let buffer = loop.pool.borrow()
        defer { loop.pool.give(buffer) }
        while !isOver {
            let count = recv(fd, buffer.baseAddress, 65_537, 0)
            if count > 0 {
                input += buffer.prefix(count)
                if takeReply() { return }
            } else if count == 0 {
                return query.failed("\(server) closed the connection without a reply", in: self)
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                return query.failed("\(SystemError("hear \(server)"))", in: self)
            }
        }
    }

    /// - Returns: Whether the attempt is over.
    private func takeReply() -> Bool {
        guard input.count >= 2 else { return false }
        let length = Int(input[0]) << 8 | Int(input[1])
        guard input.count >= length + 2 else { return false }
        // A connection of one question: what is no reply to it is none to anything.
        guard let reply = UpstreamReply(Array(input[2..<(length + 2)]), to: query.query, id: id) else {
            query.failed("\(server) sends what is no reply to the question", in: self)
            return true
        }
        query.received(reply, from: self)
        return true
    }

    func cancel() {
        isOver = true
        if let registration { loop.deregister(registration) }
        registration = nil
        if fd >= 0 { _ = Glibc.close(fd) }
        fd = -1
    }
}
