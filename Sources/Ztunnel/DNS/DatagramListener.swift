import Addressing
import DNS
import Glibc
import LinuxNetwork

/// Queries that come in by a UDP socket, which all workers share: the kernel wakes one of them.
final class DatagramListener: EventHandler {
    /// Queries taken in a row before other descriptors of the worker get their turn.
    private static let turn = 64

    private unowned let dns: PodDNS
    private let fd: CInt
    private let isV6: Bool
    private var registration: EventLoop.Registration?

    init(_ dns: PodDNS, _ fd: CInt) throws(SystemError) {
        self.dns = dns
        self.fd = fd
        isV6 = Sockets.localEndpoint(fd).map { !$0.address.isV4 } ?? false
        registration = try dns.loop.register(fd, .accept, self)
    }

    func ready(_ events: ReadyEvents) {
        withUnsafeTemporaryAllocation(byteCount: DNSQuery.largestDatagram + 1, alignment: 16) { buffer in
            for _ in 0..<Self.turn {
                guard registration != nil, take(buffer) else { return }
            }
        }
    }

    /// - Returns: Whether there may be more.
    private func take(_ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        let datagram: Sockets.Datagram
        do {
            guard let next = try Sockets.receive(fd, into: buffer) else { return false }
            datagram = next
        } catch {
            // What the network says about a reply that somebody did not wait for; it is read by this.
            return true
        }
        // Shut down by somebody who has a copy: it would be readable for ever.
        if datagram.length == 0, datagram.source == nil {
            close()
            return false
        }
        guard let source = datagram.source, source.port != 0 else { return true }
        // Where capture does not translate, the answer has to come from the server that was asked.
        let server = datagram.destination
        let bytes = Array(buffer.prefix(min(datagram.length, buffer.count)))
        switch ReceivedQuery(bytes) {
        case .drop: break
        case .reject(let reply, _): send(reply, to: source, from: server)
        case .query(let query), .foreign(let query):
            dns.take(
                PodDNS.Asked(query: query, source: source, transport: .datagram, receivedAt: dns.loop.now) {
                    [weak self] in if let reply = $0 { self?.send(reply, to: source, from: server) }
                })
        }
        return true
    }

    private func send(_ reply: [UInt8], to source: Endpoint, from server: IPAddress?) {
        // A reply that cannot be sent is lost, as datagrams are: the client asks again.
        _ = try? Sockets.send(fd, reply, to: source, from: server, dualStack: isV6)
    }

    /// Takes no more. Replies to what was taken may still be sent.
    func close() {
        if let registration { dns.loop.deregister(registration) }
        registration = nil
    }
}
