import Addressing
import DNS
import Glibc
import LinuxNetwork

/// A question to one server over UDP.
final class DatagramAttempt: UpstreamAttempt, StockWaiter, EventHandler {
    private unowned let query: UpstreamQuery
    private let loop: EventLoop
    private let server: Endpoint
    private let id: UInt16
    private var fd: CInt = -1
    private var registration: EventLoop.Registration?
    private var isOver = false
    private var strays = 0

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
        do {
            guard server.address.isV4 || dualStack else {
                throw SystemError("ask \(server) from a pod without IPv6", code: EAFNOSUPPORT)
            }
            // Connected: datagrams of others are not let in, and a refusal is heard.
            _ = try Sockets.connect(fd, to: server, dualStack: dualStack)
            registration = try loop.register(fd, .read, self)
            guard try Sockets.send(fd, query.query.bytes(id: id)) else {
                throw SystemError("ask \(server)", code: ENOBUFS)
            }
        } catch {
            query.failed("\(error)", in: self)
        }
    }

    func ready(_ events: ReadyEvents) {
        let buffer = loop.pool.borrow()
        defer { loop.pool.give(buffer) }
        do {
            while !isOver, let datagram = try Sockets.receive(fd, into: buffer) {
                if datagram.length <= buffer.count,
                    let reply = UpstreamReply(Array(buffer.prefix(datagram.length)), to: query.query, id: id)
                {
                    return query.received(reply, from: self)
                }
                strays += 1
                if strays > UpstreamQuery.strayLimit {
                    return query.failed("\(server) sends what is no reply to the question", in: self)
                }
            }
        } catch {
            query.failed(
                error.code == ECONNREFUSED ? "\(server) refuses: no name server is there" : "\(error)", in: self)
        }
    }

    func cancel() {
        isOver = true
        if let registration { loop.deregister(registration) }
        registration = nil
        if fd >= 0 { _ = Glibc.close(fd) }
        fd = -1
    }
}
