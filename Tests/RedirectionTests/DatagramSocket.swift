import Addressing
import Glibc
import LinuxNetwork

/// A UDP socket with bounded waits.
final class DatagramSocket {
    private let descriptor: FileDescriptor
    private let v6: Bool

    /// ztunnel's DNS proxy: on loopback, where questions are led, so that answers leave from there.
    static func proxy(_ family: IPAddress.Family, in pod: borrowing NetworkNamespace) throws -> DatagramSocket {
        let loopback: IPAddress = family == .v4 ? .loopbackV4 : .loopbackV6
        return try DatagramSocket(family, at: loopback, port: ZtunnelPort.dns, in: pod, ztunnel: true)
    }

    /// - Parameter ztunnel: with ztunnel's mark, and its seal unless it is forged.
    init(
        _ family: IPAddress.Family, at address: IPAddress? = nil, port: UInt16? = nil,
        in namespace: borrowing NetworkNamespace, ztunnel: Bool = false, sealed: Bool = true, transparent: Bool = false
    ) throws {
        let v6 = family == .v6
        self.v6 = v6
        descriptor = try namespace.run {
            let socket = try Sockets.udp(dualStack: v6)
            try Sockets.setReuseAddress(socket.raw)
            if ztunnel {
                try Sockets.setMark(socket.raw, Mark.ztunnel)
                if sealed { try Sockets.seal(socket.raw) }
            }
            if transparent { try Sockets.setTransparent(socket.raw) }
            if let port { try Sockets.bind(socket.raw, to: Endpoint(address ?? any(family), port), dualStack: v6) }
            return socket
        }
    }

    /// From now on only what comes from there is received, so that an answer shows where it seems to come from.
    func connect(to endpoint: Endpoint) throws {
        _ = try Sockets.connect(descriptor.raw, to: endpoint, dualStack: v6)
    }

    func send(_ bytes: [UInt8], to endpoint: Endpoint? = nil) throws {
        guard try Sockets.send(descriptor.raw, bytes, to: endpoint, dualStack: v6) else {
            throw SystemError("send a datagram", code: EAGAIN)
        }
    }

    func receive() throws -> (bytes: [UInt8], source: Endpoint) {
        guard waits(3000) else { throw SystemError("receive a datagram", code: ETIMEDOUT) }
        var buffer = [UInt8](repeating: 0, count: 512)
        let datagram = try buffer.withUnsafeMutableBytes { try Sockets.receive(descriptor.raw, into: $0) }
        guard let datagram, let source = datagram.source else { throw SystemError("receive a datagram", code: EAGAIN) }
        return (Array(buffer.prefix(datagram.length)), source)
    }

    var hasDatagram: Bool { waits(0) }

    private func waits(_ milliseconds: CInt) -> Bool {
        var entry = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, milliseconds) > 0
    }
}
