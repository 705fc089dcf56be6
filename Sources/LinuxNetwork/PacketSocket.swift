import CLinux
import Glibc

/// Sees every packet that an interface, or every interface, sends or receives (AF_PACKET). Needs CAP_NET_RAW in the
/// namespace.
public struct PacketSocket: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    /// The descriptor's number, to wait on.
    public var raw: CInt { descriptor.raw }

    /// Watches one interface of the calling thread's namespace, or all that it has or will have.
    /// - Parameters:
    ///   - interface: `nil` for all.
    ///   - receiveBuffer: bytes the kernel may hold before it drops; beyond the system's limit where allowed.
    public init(interface: String?, receiveBuffer: CInt = 32 << 20) throws(SystemError) {
        let kind = CInt(SOCK_RAW.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        // Protocol 0 until it is bound: otherwise packets of other interfaces come in between.
        let socket = FileDescriptor(owning: try check("make a packet socket") { Glibc.socket(AF_PACKET, kind, 0) })
        var size = receiveBuffer
        if setsockopt(socket.raw, SOL_SOCKET, SO_RCVBUFFORCE, &size, socklen_t(MemoryLayout<CInt>.size)) != 0 {
            _ = setsockopt(socket.raw, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<CInt>.size))
        }
        // Index 0 stands for every interface.
        let index = interface.map { if_nametoindex($0) } ?? 0
        if let interface, index == 0 { throw SystemError("find interface \(interface)") }
        var address = sockaddr_ll()
        address.sll_family = UInt16(AF_PACKET)
        // ETH_P_ALL: both directions, every protocol.
        address.sll_protocol = UInt16(3).bigEndian
        address.sll_ifindex = CInt(index)
        let raw = socket.raw
        try check("watch \(interface ?? "all interfaces")") {
            withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(raw, $0, socklen_t(MemoryLayout<sockaddr_ll>.size))
                }
            }
        }
        descriptor = socket
    }

    /// The next packet, from its Ethernet header on; `nil` when there is none.
    /// - Parameter buffer: as large as the largest packet of interest; a larger one is cut.
    public borrowing func next(into buffer: inout [UInt8]) throws(SystemError) -> ArraySlice<UInt8>? {
        while true {
            let count = recv(descriptor.raw, &buffer, buffer.count, 0)
            if count >= 0 { return buffer[..<count] }
            switch errno {
            case EAGAIN: return nil
            case EINTR: continue
            default: throw SystemError("receive from a packet socket")
            }
        }
    }

    /// How many packets the kernel had to drop since this was asked last.
    public borrowing func takeDropped() -> UInt32 {
        // struct tpacket_stats: packets, then drops; reading resets both.
        var statistics: (packets: UInt32, drops: UInt32) = (0, 0)
        var length = socklen_t(MemoryLayout.size(ofValue: statistics))
        return getsockopt(descriptor.raw, SOL_PACKET, PACKET_STATISTICS, &statistics, &length) == 0
            ? statistics.drops : 0
    }
}
