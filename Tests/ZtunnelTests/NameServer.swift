import Addressing
import DNS
import Foundation
import Glibc
import LinuxNetwork
import Synchronization

/// A name server of the tests, on port 53 of a pod (or elsewhere), over UDP and TCP. What it answers is a function of the
/// query: any number of messages, right or wrong.
final class NameServer: Sendable {
    struct Heard: Sendable {
        let bytes: [UInt8]
        let overTCP: Bool
        let source: Endpoint?
        var name: String { (try? DNSMessage(parsing: bytes))?.questions.first?.name.hostname ?? "" }
    }

    typealias Behaviour = @Sendable (Heard) -> [[UInt8]]

    private let datagrams: FileDescriptor
    private let listener: FileDescriptor
    let port: UInt16
    private let stopping = Atomic<Bool>(false)
    private let seen = Mutex<[Heard]>([])
    private let behaviour: Behaviour
    private let ended = ThreadSignal()

    /// Of the queries that came, in order.
    var heard: [Heard] { seen.withLock { $0 } }

    /// Makes its sockets in the calling thread's namespace.
    init(address: IPAddress = .anyV4, port: UInt16 = 53, _ behaviour: @escaping Behaviour) throws {
        let tcp = try Sockets.tcp(dualStack: false)
        try Sockets.setReuseAddress(tcp.raw)
        try Sockets.bind(tcp.raw, to: Endpoint(address, port), dualStack: false)
        try Sockets.listen(tcp.raw, backlog: 16)
        self.port = Sockets.localEndpoint(tcp.raw)?.port ?? port
        let udp = try Sockets.udp(dualStack: false)
        try Sockets.bind(udp.raw, to: Endpoint(address, self.port), dualStack: false)
        datagrams = udp
        listener = tcp
        self.behaviour = behaviour
        Thread { [self] in run() }.start()
    }

    func stop() {
        stopping.store(true, ordering: .releasing)
        _ = ended.wait(seconds: 5)
    }

    private func run() {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while !stopping.load(ordering: .acquiring) {
            var entries = [
                pollfd(fd: datagrams.raw, events: Int16(POLLIN), revents: 0),
                pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&entries, 2, 20) > 0 else { continue }
            if entries[0].revents != 0 {
                let datagram = buffer.withUnsafeMutableBytes { try? Sockets.receive(datagrams.raw, into: $0) }
                if let datagram, let source = datagram.source {
                    let query = Heard(bytes: Array(buffer[..<datagram.length]), overTCP: false, source: source)
                    seen.withLock { $0.append(query) }
                    for reply in behaviour(query) { _ = try? Sockets.send(datagrams.raw, reply, to: source) }
                }
            }
            if entries[1].revents != 0, let peer = try? Sockets.accept(listener.raw) { serve(peer) }
        }
        ended.signal()
    }

    private func serve(_ accepted: consuming Sockets.Accepted) {
        let source = accepted.peer
        let socket = accepted.takeDescriptor()
        while let length = read(socket.raw, 2), let bytes = read(socket.raw, Int(length[0]) << 8 | Int(length[1])) {
            let query = Heard(bytes: bytes, overTCP: true, source: source)
            seen.withLock { $0.append(query) }
            for reply in behaviour(query) {
                let framed = [UInt8(reply.count >> 8), UInt8(reply.count & 255)] + reply
                _ = Glibc.send(socket.raw, framed, framed.count, CInt(MSG_NOSIGNAL))
            }
        }
    }

    private func read(_ fd: CInt, _ count: Int) -> [UInt8]? {
        var bytes: [UInt8] = []
        while bytes.count < count {
            var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 1000) == 1 else { return nil }
            var chunk = [UInt8](repeating: 0, count: count - bytes.count)
            let got = recv(fd, &chunk, chunk.count, 0)
            guard got > 0 else { return nil }
            bytes += chunk.prefix(got)
        }
        return bytes
    }
}

/// Messages of the tests, made by hand.
enum TestMessage {
    static func query(
        _ name: String, _ type: RecordType = .a, id: UInt16 = 7, flags: UInt16 = 0x0100, edns: UInt16? = nil
    ) -> [UInt8] {
        var bytes: [UInt8] = [UInt8(id >> 8), UInt8(id & 255), UInt8(flags >> 8), UInt8(flags & 255)]
        bytes += [0, 1, 0, 0, 0, 0, 0, edns == nil ? 0 : 1]
        bytes += name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
        bytes += [UInt8(type.rawValue >> 8), UInt8(type.rawValue & 255), 0, 1]
        if let edns { bytes += [0, 0, 41, UInt8(edns >> 8), UInt8(edns & 255), 0, 0, 0, 0, 0, 0] }
        return bytes
    }

    /// A reply to a query with so many A records 10.0.0.x.
    static func reply(_ query: [UInt8], _ last: [UInt8] = [1], code: UInt8 = 0, truncated: Bool = false) -> [UInt8] {
        // Without the query's OPT record.
        var end = 12
        while query[end] != 0 { end += 1 + Int(query[end]) }
        var bytes = Array(query[..<(end + 5)])
        bytes[2] = 0x84 | query[2] & 0x79 | (truncated ? 2 : 0)
        bytes[3] = 0x80 | code
        bytes[6] = UInt8(last.count >> 8)
        bytes[7] = UInt8(last.count & 255)
        bytes[10] = 0
        bytes[11] = 0
        for number in last { bytes += [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, number] }
        return bytes
    }

    static func code(_ reply: [UInt8]) throws -> String { "\(try DNSMessage(parsing: reply).responseCode)" }

    static func addresses(_ reply: [UInt8]) throws -> [String] {
        let message = try DNSMessage(parsing: reply)
        return message.records.compactMap { message.address(of: $0)?.description }
    }
}

/// An application's questions, from the pod's namespace.
struct DNSApplication {
    let pod: TestPod

    /// Asks over UDP and waits for one datagram; `nil` when none comes in time.
    func ask(_ bytes: [UInt8], at server: Endpoint, milliseconds: CInt = 15_000) throws -> [UInt8]? {
        let v4 = server.address.isV4
        let socket = FileDescriptor(
            owning: try pod.namespace.run { () throws(SystemError) in try Sockets.udp(dualStack: !v4).release() })
        _ = try Sockets.connect(socket.raw, to: server, dualStack: !v4)
        try Sockets.send(socket.raw, bytes)
        var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, milliseconds) == 1 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        guard let datagram = try buffer.withUnsafeMutableBytes({ try Sockets.receive(socket.raw, into: $0) }) else {
            return nil
        }
        return Array(buffer[..<datagram.length])
    }

    /// Asks over TCP, all at once, and reads as many replies.
    func askOverTCP(_ queries: [[UInt8]], at server: Endpoint) throws -> [[UInt8]] {
        let socket = try pod.connect(to: server)
        try Talk.ready(socket.raw, POLLOUT, "the connection")
        let bytes = queries.flatMap { [UInt8($0.count >> 8), UInt8($0.count & 255)] + $0 }
        guard send(socket.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count else { throw SystemError("send") }
        var replies: [[UInt8]] = []
        for _ in queries {
            let head = try receive(socket.raw, 2)
            replies.append(try receive(socket.raw, Int(head[0]) << 8 | Int(head[1])))
        }
        return replies
    }

    private func receive(_ fd: CInt, _ count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            try Talk.ready(fd, POLLIN, "a reply")
            var chunk = [UInt8](repeating: 0, count: count - bytes.count)
            let got = recv(fd, &chunk, chunk.count, 0)
            guard got > 0 else { throw Unmet("the connection ended after \(bytes.count) of \(count) bytes") }
            bytes += chunk.prefix(got)
        }
        return bytes
    }
}
