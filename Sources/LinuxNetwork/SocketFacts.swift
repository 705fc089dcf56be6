import CLinux
import Glibc

/// What the kernel says of a socket that came from elsewhere.
extension Sockets {
    /// Which network namespace the socket is in (SO_NETNS_COOKIE, Linux 5.14): never used again while the machine runs.
    public static func namespaceCookie(_ fd: CInt) throws(SystemError) -> UInt64 {
        // SO_NETNS_COOKIE (asm-generic/socket.h).
        var value: UInt64 = 0
        var length = socklen_t(MemoryLayout<UInt64>.size)
        try check("SO_NETNS_COOKIE") { getsockopt(fd, SOL_SOCKET, 71, &value, &length) }
        return value
    }

    /// AF_INET, AF_INET6, AF_UNIX.
    public static func domain(_ fd: CInt) throws(SystemError) -> CInt {
        try get(fd, SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN")
    }

    /// SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET.
    public static func type(_ fd: CInt) throws(SystemError) -> CInt { try get(fd, SOL_SOCKET, SO_TYPE, "SO_TYPE") }

    public static func mark(_ fd: CInt) throws(SystemError) -> UInt32 {
        UInt32(bitPattern: try get(fd, SOL_SOCKET, SO_MARK, "SO_MARK"))
    }

    /// Whether ``Sockets.setTransparent(_:)`` was called.
    public static func isTransparent(_ fd: CInt) throws(SystemError) -> Bool {
        try get(fd, CInt(IPPROTO_IP), 19, "IP_TRANSPARENT") != 0
    }

    private static func get(
        _ fd: CInt, _ level: CInt, _ option: CInt, _ name: StaticString
    ) throws(SystemError) -> CInt {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        try check("getsockopt(\(name))") { getsockopt(fd, level, option, &value, &length) }
        return value
    }
}
