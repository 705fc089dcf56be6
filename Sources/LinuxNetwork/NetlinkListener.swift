import CLinux
import Glibc

/// A netlink socket that hears what the kernel announces, in its own network namespace and in all that this one has a
/// number for.
public struct NetlinkListener: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    /// The descriptor's number, to wait for.
    public var raw: CInt { descriptor.raw }

    /// What came.
    public enum Message: Sendable {
        /// From the namespace of this number; `nil` for the socket's own.
        case from(Int32?)
        /// There was more than the socket holds.
        case lost
    }

    private enum Option {
        static let level: CInt = 270
        static let addMembership: CInt = 1
        static let listenEverywhere: CInt = 8
    }

    /// Opens a socket in the calling thread's namespace. Other namespaces need CAP_NET_BROADCAST over them.
    /// - Parameter bus: the netlink family's number; `groups`: the multicast groups' numbers.
    public init(bus: CInt, groups: [CInt]) throws(SystemError) {
        let descriptor = FileDescriptor(
            owning: try check("open netlink socket") {
                socket(AF_NETLINK, CInt(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), bus)
            })
        let raw = descriptor.raw
        func set(_ level: CInt, _ option: CInt, _ value: CInt) -> CInt {
            var value = value
            return setsockopt(raw, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
        }
        // Without a name of its own the kernel takes it for the one who made each change, who is not told.
        try check("bind netlink socket") { apus_bind_netlink(raw) }
        // Beyond the system's limit where that is allowed; what does not fit is told as lost.
        if set(SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20) != 0 { _ = set(SOL_SOCKET, SO_RCVBUF, 1 << 20) }
        try check("hear of other namespaces") { set(Option.level, Option.listenEverywhere, 1) }
        for group in groups {
            try check("join netlink group \(group)") { set(Option.level, Option.addMembership, group) }
        }
        self.descriptor = descriptor
    }

    /// Takes the next message off the socket, without waiting. What it says is left unread.
    public borrowing func next() -> Message? {
        // A message that is longer is cut; where it comes from is known all the same.
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
            while true {
                var number: Int32 = -1
                let count = apus_receive_netlink(raw, buffer.baseAddress, buffer.count, &number)
                if count >= 0 { return .from(number < 0 ? nil : number) }
                if errno == ENOBUFS { return .lost }
                if errno != EINTR { return nil }
            }
        }
    }
}
