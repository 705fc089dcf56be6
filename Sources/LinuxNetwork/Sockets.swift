import Addressing
import CLinux
import Glibc

/// TCP sockets as the mesh uses them: non-blocking, close-on-exec, options typed. All take borrowed descriptors.
public enum Sockets {
    /// A TCP socket in the calling thread's network namespace.
    public static func tcp(dualStack: Bool) throws(SystemError) -> FileDescriptor {
        let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        let socket = FileDescriptor(
            owning: try check("make a TCP socket") { Glibc.socket(dualStack ? AF_INET6 : AF_INET, kind, 0) })
        if dualStack { try set(socket.raw, CInt(IPPROTO_IPV6), IPV6_V6ONLY, 0, "IPV6_V6ONLY") }
        return socket
    }

    /// Whether sockets of family AF_INET6 can be made here (the kernel may have IPv6 compiled out or off).
    public static var kernelHasIPv6: Bool {
        let probe = Glibc.socket(AF_INET6, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard probe >= 0 else { return false }
        _ = Glibc.close(probe)
        return true
    }

    public static func bind(_ fd: CInt, to endpoint: Endpoint, dualStack: Bool) throws(SystemError) {
        let result = SocketAddress.with(endpoint, dualStack: dualStack) { Glibc.bind(fd, $0, $1) }
        guard result == 0 else { throw SystemError("bind to \(endpoint)") }
    }

    public static func listen(_ fd: CInt, backlog: CInt) throws(SystemError) {
        try check("listen") { Glibc.listen(fd, backlog) }
    }

    /// Begins a connection, or asks again how one that was begun fares.
    /// - Returns: Whether it is already made; otherwise writability and ``pendingError(_:)`` tell, or this once more.
    /// - Throws: What the attempt has ended with, too.
    public static func connect(_ fd: CInt, to endpoint: Endpoint, dualStack: Bool) throws(SystemError) -> Bool {
        let result = SocketAddress.with(endpoint, dualStack: dualStack) { Glibc.connect(fd, $0, $1) }
        if result == 0 { return true }
        if errno == EINPROGRESS || errno == EALREADY || errno == EINTR { return false }
        throw SystemError("connect to \(endpoint)")
    }

    /// A connection taken off a listener.
    public struct Accepted: ~Copyable {
        public let descriptor: FileDescriptor
        /// `nil` for a unix socket.
        public let peer: Endpoint?

        public consuming func takeDescriptor() -> FileDescriptor { descriptor }
    }

    /// Takes the next connection off a listener; `nil` when there is none.
    public static func accept(_ fd: CInt) throws(SystemError) -> Accepted? {
        while true {
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let accepted = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    apus_accept4(fd, $0, &length, CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue))
                }
            }
            if accepted >= 0 {
                return Accepted(descriptor: FileDescriptor(owning: accepted), peer: SocketAddress.endpoint(storage))
            }
            switch errno {
            case EAGAIN: return nil
            // The connection was gone before we took it: the next one, please.
            case EINTR, ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, ENETUNREACH: continue
            default: throw SystemError("accept")
            }
        }
    }

    /// Ends both directions, for everybody who has a copy of the descriptor; a listener takes no more.
    public static func shutDown(_ fd: CInt) { _ = Glibc.shutdown(fd, CInt(SHUT_RDWR)) }

    public static func shutdownWrite(_ fd: CInt) { _ = Glibc.shutdown(fd, CInt(SHUT_WR)) }

    /// Makes close() send RST: the peer learns that the connection failed instead of that it ended.
    public static func resetOnClose(_ fd: CInt) {
        var value = linger(l_onoff: 1, l_linger: 0)
        _ = setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
    }

    // MARK: Addresses

    public static func localEndpoint(_ fd: CInt) -> Endpoint? { name(fd, getsockname) }
    public static func peerEndpoint(_ fd: CInt) -> Endpoint? { name(fd, getpeername) }

    /// Where the client wanted to go before netfilter redirected it here (SO_ORIGINAL_DST).
    /// `nil` when the connection was not redirected.
    public static func originalDestination(_ fd: CInt) -> Endpoint? {
        // SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST have the same number.
        let original: CInt = 80
        for level in [CInt(IPPROTO_IP), CInt(IPPROTO_IPV6)] {
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            if getsockopt(fd, level, original, &storage, &length) == 0, let found = SocketAddress.endpoint(storage) {
                return found
            }
        }
        return nil
    }

    private static func name(
        _ fd: CInt, _ call: (CInt, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> CInt
    ) -> Endpoint? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(fd, $0, &length) }
        }
        return result == 0 ? SocketAddress.endpoint(storage) : nil
    }

    // MARK: Options

    /// The error a connection attempt or a broken connection left behind (SO_ERROR), which reading clears.
    public static func pendingError(_ fd: CInt) -> CInt {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) == 0 ? value : errno
    }

    /// Whether the socket is a listener (SO_ACCEPTCONN); shutdown(2) on any copy ends that.
    public static func isListening(_ fd: CInt) -> Bool {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value != 0
    }

    public static func setReuseAddress(_ fd: CInt) throws(SystemError) {
        try set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR")
    }

    public static func setReusePort(_ fd: CInt) throws(SystemError) {
        try set(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT")
    }

    public static func setMark(_ fd: CInt, _ mark: UInt32) throws(SystemError) {
        try set(fd, SOL_SOCKET, SO_MARK, CInt(bitPattern: mark), "SO_MARK")
    }

    /// Seals a socket (``Seal``), for whatever family and protocol.
    /// - Throws: `EPERM` without CAP_NET_ADMIN on the machine; `ENOPROTOOPT` where the kernel has no such thing (Linux 5.10
    ///   and earlier, and without CONFIG_NET_RX_BUSY_POLL).
    public static func seal(_ fd: CInt) throws(SystemError) {
        // SO_BUSY_POLL_BUDGET (Linux uapi).
        try set(fd, SOL_SOCKET, 70, CInt(Seal.value), "SO_BUSY_POLL_BUDGET")
    }

    /// Seals a socket where that can be done; where it cannot, no capture asks for it.
    /// - Throws: Anything but that the kernel has no seals.
    public static func sealIfPossible(_ fd: CInt) throws(SystemError) {
        do {
            try seal(fd)
        } catch {
            guard error.code == ENOPROTOOPT else { throw error }
        }
    }

    /// Lets the socket bind to, and accept connections for, addresses that are not the namespace's own; of either family.
    public static func setTransparent(_ fd: CInt) throws(SystemError) {
        // IP_TRANSPARENT (Linux uapi). IPV6_TRANSPARENT is another way to the same flag of the socket.
        try set(fd, CInt(IPPROTO_IP), 19, 1, "IP_TRANSPARENT")
    }

    /// Leaves the choice of the source port to connect(), which may then share ports between destinations.
    public static func setBindAddressNoPort(_ fd: CInt) throws(SystemError) {
        try set(fd, CInt(IPPROTO_IP), 24, 1, "IP_BIND_ADDRESS_NO_PORT")
    }

    public static func setNoDelay(_ fd: CInt) throws(SystemError) {
        try set(fd, CInt(IPPROTO_TCP), Glibc.TCP_NODELAY, 1, "TCP_NODELAY")
    }

    /// Before connect(): the last packet of the handshake waits for the first bytes that are sent, or for
    /// ``acknowledge(_:)``, for 200 ms at most.
    public static func holdAcknowledgement(_ fd: CInt) {
        var value: CInt = 1
        // What cannot be held back goes at once, which is as good.
        _ = setsockopt(fd, CInt(IPPROTO_TCP), Glibc.TCP_DEFER_ACCEPT, &value, socklen_t(MemoryLayout<CInt>.size))
    }

    /// Acknowledges at once what was held back.
    public static func acknowledge(_ fd: CInt) {
        var value: CInt = 1
        // It fails on a connection that is over, which has nothing to acknowledge.
        _ = setsockopt(fd, CInt(IPPROTO_TCP), Glibc.TCP_QUICKACK, &value, socklen_t(MemoryLayout<CInt>.size))
    }

    /// Seconds of silence before the first probe, seconds between probes, probes before the connection is given up.
    public static func setKeepAlive(_ fd: CInt, idle: CInt, interval: CInt, count: CInt) throws(SystemError) {
        try set(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE")
        try set(fd, CInt(IPPROTO_TCP), Glibc.TCP_KEEPIDLE, idle, "TCP_KEEPIDLE")
        try set(fd, CInt(IPPROTO_TCP), Glibc.TCP_KEEPINTVL, interval, "TCP_KEEPINTVL")
        try set(fd, CInt(IPPROTO_TCP), Glibc.TCP_KEEPCNT, count, "TCP_KEEPCNT")
    }

    public static func setKeepAliveOff(_ fd: CInt) throws(SystemError) {
        try set(fd, SOL_SOCKET, SO_KEEPALIVE, 0, "SO_KEEPALIVE")
    }

    /// For how long sent bytes may go unacknowledged before the connection is given up; 0 leaves that to the kernel.
    public static func setUserTimeout(_ fd: CInt, milliseconds: UInt32) throws(SystemError) {
        try set(fd, CInt(IPPROTO_TCP), Glibc.TCP_USER_TIMEOUT, CInt(clamping: milliseconds), "TCP_USER_TIMEOUT")
    }

    /// Asks for a send buffer beyond the system's limit, which needs CAP_NET_ADMIN, else up to the limit.
    public static func setSendBuffer(_ fd: CInt, _ bytes: CInt) {
        var value = bytes
        let size = socklen_t(MemoryLayout<CInt>.size)
        if setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &value, size) != 0 {
            _ = setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, size)
        }
    }

    static func set(
        _ fd: CInt, _ level: CInt, _ option: CInt, _ value: CInt, _ name: StaticString
    ) throws(SystemError) {
        var value = value
        guard setsockopt(fd, level, option, &value, socklen_t(MemoryLayout<CInt>.size)) == 0 else {
            throw SystemError("setsockopt(\(name))")
        }
    }
}
