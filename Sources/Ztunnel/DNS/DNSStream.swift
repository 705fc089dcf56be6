import Addressing
import DNS
import Glibc
import LinuxNetwork

/// A client's TCP connection (RFC 7766): queries with a length in front, answered in any order.
///
/// It ends after five seconds without a query or an answer. What is no ordinary query (an update, a zone transfer) makes
/// it a relay to the server that the client wanted.
final class DNSStream: EventHandler, TimerHandler {
    static let idleTimeout = Duration.seconds(5)
    /// Queries of one connection under way; more are not read.
    static let queryLimit = 32
    /// Unsent bytes at which nothing more is read.
    static let outputLimit = 256 << 10

    private unowned let dns: PodDNS
    private let source: Endpoint
    private var socket: FileDescriptor?
    private let fd: CInt
    private var registration: EventLoop.Registration?
    private var timer: TimerID?
    private var input: [UInt8] = []
    private var output: ArraySlice<UInt8> = []
    private var underWay = 0
    private var isReadable = false
    private var isTaking = false
    private var inputEnded = false
    private var isDraining = false
    private var relay: ForeignRelay?
    private var isOver = false

    init(_ dns: PodDNS, _ descriptor: consuming FileDescriptor, _ source: Endpoint) {
        self.dns = dns
        self.source = source
        fd = descriptor.raw
        socket = consume descriptor
    }

    func start() {
        do {
            registration = try dns.loop.register(fd, .connection, self)
        } catch {
            return close()
        }
        touch()
    }

    /// Puts the end off.
    private func touch() {
        if let timer { dns.loop.cancel(timer) }
        timer = dns.loop.schedule(after: Self.idleTimeout, self)
    }

    func timerFired(tag: Int) {
        timer = nil
        // Each query that is under way has an end of its own.
        if underWay > 0 { touch() } else { close() }
    }

    func ready(_ events: ReadyEvents) {
        if !events.isDisjoint(with: [.readable, .readHangup, .hangup, .error]) { isReadable = true }
        if events.contains(.writable) { write() }
        read()
    }

    // MARK: Reading

    private func read() {
        while isReadable, !isOver, relay == nil, !inputEnded, underWay < Self.queryLimit,
            output.count < Self.outputLimit
        {
            let buffer = dns.loop.pool.borrow()
            let count = recv(fd, buffer.baseAddress, 65_537, 0)
            if count > 0 { input += buffer.prefix(count) }
            dns.loop.pool.give(buffer)
            if count > 0 {
                takeQueries()
            } else if count == 0 {
                inputEnded = true
            } else if errno == EAGAIN {
                isReadable = false
            } else if errno != EINTR {
                return close()
            }
        }
        closeIfDone()
    }

    private func takeQueries() {
        isTaking = true
        defer { isTaking = false }
        while !isOver, relay == nil, input.count >= 2, underWay < Self.queryLimit {
            let length = Int(input[0]) << 8 | Int(input[1])
            guard input.count >= length + 2 else { return }
            let message = Array(input[2..<(length + 2)])
            input.removeFirst(length + 2)
            touch()
            guard take(message) else { return }
        }
    }

    /// - Returns: Whether the connection goes on as it was.
    private func take(_ message: [UInt8]) -> Bool {
        switch ReceivedQuery(message) {
        case .drop:
            // Over TCP there is no telling what a response from a client means; nothing good.
            close()
            return false
        case .reject(let reply, _): send(reply)
        case .foreign(let query): return pass(query)
        case .query(let query):
            if query.question?.type.isTransfer == true { return pass(query) }
            underWay += 1
            dns.take(
                PodDNS.Asked(query: query, source: source, transport: .stream, receivedAt: dns.loop.now) {
                    [weak self] in self?.answered($0)
                })
        }
        return true
    }

    /// - Returns: Whether the connection goes on as it was.
    private func pass(_ query: DNSQuery) -> Bool {
        guard underWay == 0, output.isEmpty,
            let server = ForeignRelay.server(of: fd, source: source, in: dns.proxy)
        else {
            send(query.failure(.notImplemented))
            return true
        }
        if let registration { dns.loop.deregister(registration) }
        registration = nil
        if let timer { dns.loop.cancel(timer) }
        timer = nil
        guard let client = socket.take() else { return false }
        let length = [UInt8(query.bytes.count >> 8), UInt8(query.bytes.count & 0xff)]
        let relay = ForeignRelay(dns.proxy, first: length + query.bytes + input) { [weak self] in self?.close() }
        self.relay = relay
        relay.start(client, to: server)
        return false
    }

    // MARK: Writing

    private func answered(_ reply: [UInt8]?) {
        underWay -= 1
        guard !isOver else { return }
        touch()
        if let reply { send(reply) }
        // From within a take the loop there goes on; otherwise what waited for room is taken now.
        guard !isTaking else { return }
        takeQueries()
        read()
    }

    private func send(_ reply: [UInt8]) {
        output += [UInt8(reply.count >> 8), UInt8(reply.count & 0xff)]
        output += reply
        write()
    }

    private func write() {
        guard !isOver, relay == nil else { return }
        while !output.isEmpty {
            let sent = output.withUnsafeBytes { Glibc.send(fd, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            if sent > 0 {
                output = output.dropFirst(sent)
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                return close()
            }
        }
        output = []
    }

    // MARK: The end

    /// After the client's last word, or ours, when everything has been said.
    private func closeIfDone() {
        if inputEnded || isDraining, underWay == 0, output.isEmpty, relay == nil { close() }
    }

    func drain() {
        isDraining = true
        closeIfDone()
    }

    func close() {
        guard !isOver else { return }
        isOver = true
        if let registration { dns.loop.deregister(registration) }
        registration = nil
        if let timer { dns.loop.cancel(timer) }
        timer = nil
        relay?.abort()
        relay = nil
        socket = nil
        dns.ended(self)
    }
}
