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
        /// The address it was sent to, where ``tellDestination(_:v6:)`` was asked for.
        public let destination: IPAddress?
    }

    /// Has datagrams tell the address they were sent to.
    public static func tellDestination(_ fd: CInt, v6: Bool) throws(SystemError) {
        // IP_PKTINFO and IPV6_RECVPKTINFO (Linux uapi).
        if v6 {
            try set(fd, CInt(IPPROTO_IPV6), 49, 1, "IPV6_RECVPKTINFO")
        } else {
            try set(fd, CInt(IPPROTO_IP), 8, 1, "IP_PKTINFO")
        }
    }

    /// Takes the next datagram; `nil` when there is none.
    /// - Throws: What the network said about an earlier datagram of a connected socket (ECONNREFUSED), or a failure.
    public static func receive(
        _ fd: CInt, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) -> Datagram? {
        while true {
            var storage = sockaddr_storage()
            var length = socklen_t(0)
            var address = [UInt8](repeating: 0, count: 16)
            var family: CInt = 0
            let count = apus_receive_datagram(
                fd, buffer.baseAddress, buffer.count, &storage, &length, &address, &family)
            if count >= 0 {
                let destination: IPAddress? =
                    switch family {
                    case AF_INET: IPAddress(bytes: address.prefix(4))
                    case AF_INET6: IPAddress(bytes: address)
                    default: nil
                    }
                return Datagram(
                    length: count, source: length == 0 ? nil : SocketAddress.endpoint(storage),
                    destination: destination)
            }
            switch errno {
            case EAGAIN: return nil
            case EINTR: continue
            default: throw SystemError("receive a datagram")
            }
        }
    }

    /// Sends a datagram, to the peer of a connected socket when no address is given.
    /// - Parameter source: The address to speak from, for a socket that is transparent or has it.
    /// - Returns: Whether the kernel took it; it does not when its buffers are full.
    @discardableResult
    public static func send(
        _ fd: CInt, _ bytes: [UInt8], to endpoint: Endpoint? = nil, from source: IPAddress? = nil,
        dualStack: Bool = false
    ) throws(SystemError) -> Bool {
        let flags = CInt(MSG_NOSIGNAL)
        let sent =
            if let endpoint {
                SocketAddress.with(endpoint, dualStack: dualStack) { address, length in
                    if let source {
                        apus_send_datagram(
                            fd, bytes, bytes.count, address, length, source.bytes, source.isV4 ? AF_INET : AF_INET6)
                    } else {
                        sendto(fd, bytes, bytes.count, flags, address, length)
                    }
                }
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
