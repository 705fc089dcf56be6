import Addressing
import CLinux
import Glibc

/// UDP sockets, non-blocking and close-on-exec. All take borrowed descriptors.
extension Sockets {
    /// A UDP socket in the calling thread's network namespace.
    public static func udp(dualStack: Bool) throws(SystemError) -> FileDescriptor {
        let kind = CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        let socket = FileDescriptor(
            owning: try check("make a UDP socket") { Glibc.socket(dualStack ? AF_INET6 : AF_INET, kind, 0) })
        if dualStack { try setV6Only(socket.raw, false) }
        return socket
    }

    /// Whether an IPv6 socket keeps to IPv6, so that an IPv4 one may have the same port beside it.
    public static func setV6Only(_ fd: CInt, _ only: Bool) throws(SystemError) {
        try set(fd, CInt(IPPROTO_IPV6), IPV6_V6ONLY, only ? 1 : 0, "IPV6_V6ONLY")
    }

    /// A datagram's length and where it came from. A length beyond the buffer's means that it was cut.
    public struct Datagram {
        public let length: Int
        /// `nil` when the socket is of another kind than IP.
        public let source: Endpoint?
    }

    /// Takes the next datagram; `nil` when there is none.
    /// - Throws: What the network said about an earlier datagram of a connected socket (ECONNREFUSED), or a failure.
    public static func receive(
        _ fd: CInt, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) -> Datagram? {
        while true {
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(fd, buffer.baseAddress, buffer.count, CInt(MSG_TRUNC), $0, &length)
                }
            }
            if count >= 0 { return Datagram(length: count, source: SocketAddress.endpoint(storage)) }
            switch errno {
            case EAGAIN: return nil
            case EINTR: continue
            default: throw SystemError("receive a datagram")
            }
        }
    }

    /// Sends a datagram, to the peer of a connected socket when no address is given.
    /// - Returns: Whether the kernel took it; it does not when its buffers are full.
    @discardableResult
    public static func send(
        _ fd: CInt, _ bytes: [UInt8], to endpoint: Endpoint? = nil, dualStack: Bool = false
    ) throws(SystemError) -> Bool {
        let flags = CInt(MSG_NOSIGNAL)
        let sent =
            if let endpoint {
                SocketAddress.with(endpoint, dualStack: dualStack) { sendto(fd, bytes, bytes.count, flags, $0, $1) }
            } else {
                Glibc.send(fd, bytes, bytes.count, flags)
            }
        if sent >= 0 { return true }
        switch errno {
        case EAGAIN, EINTR, ENOBUFS: return false
        default: throw SystemError("send a datagram")
        }
    }
}
