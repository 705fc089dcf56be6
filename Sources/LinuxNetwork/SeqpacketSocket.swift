import CLinux
import Glibc

/// Who is at the other end of a unix socket, as the kernel recorded it when the connection was made.
public struct PeerCredentials: Hashable, Sendable {
    public let pid: Int32
    public let uid: UInt32
    public let gid: UInt32
}

/// One packet off a unix socket. Descriptors that nobody takes are closed with it.
public struct Packet: ~Copyable, Sendable {
    public let bytes: [UInt8]
    public private(set) var descriptors: [CInt]
    /// The packet or its descriptors were more than there was room for; what is here is a part.
    public let truncated: Bool

    init(bytes: [UInt8], descriptors: [CInt], truncated: Bool) {
        self.bytes = bytes
        self.descriptors = descriptors
        self.truncated = truncated
    }

    deinit { for descriptor in descriptors { _ = Glibc.close(descriptor) } }

    /// Takes the descriptor at the front; `nil` when there is none left.
    public mutating func takeDescriptor() -> FileDescriptor? {
        descriptors.isEmpty ? nil : FileDescriptor(owning: descriptors.removeFirst())
    }
}

/// A unix socket of type SOCK_SEQPACKET: reliable, in order, packet boundaries kept, descriptors carried along.
/// Non-blocking; ``waitReadable(milliseconds:)`` and the timeouts here serve programs without an event loop.
public struct SeqpacketSocket: ~Copyable, Sendable {
    public let descriptor: FileDescriptor
    public var raw: CInt { descriptor.raw }

    public init(owning descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

    private static var kind: CInt {
        CInt(SOCK_SEQPACKET.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    }

    /// Two ends of one connection.
    public struct Pair: ~Copyable, Sendable {
        public let first: SeqpacketSocket
        public let second: SeqpacketSocket

        /// Ends that were received from elsewhere.
        public init(first: consuming SeqpacketSocket, second: consuming SeqpacketSocket) {
            self.first = first
            self.second = second
        }

        public init() throws(SystemError) {
            var ends: [CInt] = [-1, -1]
            try check("socketpair") { Glibc.socketpair(AF_UNIX, SeqpacketSocket.kind, 0, &ends) }
            first = SeqpacketSocket(owning: FileDescriptor(owning: ends[0]))
            second = SeqpacketSocket(owning: FileDescriptor(owning: ends[1]))
        }
    }

    public static func connect(path: String) throws(SystemError) -> SeqpacketSocket {
        let socket = FileDescriptor(owning: try check("make a unix socket") { Glibc.socket(AF_UNIX, kind, 0) })
        let raw = socket.raw
        try withAddress(path) { (address, length) throws(SystemError) in
            try check("connect to \(path)") { Glibc.connect(raw, address, length) }
        }
        return SeqpacketSocket(owning: socket)
    }

    /// Connects, and waits while the listener's queue is full, which ``connect(path:)`` answers with `EAGAIN` at once.
    /// - Parameter milliseconds: how long to wait for a place in the queue; then it is `EAGAIN` too.
    public static func connect(path: String, milliseconds: Int) throws(SystemError) -> SeqpacketSocket {
        let blocking = kind & ~CInt(SOCK_NONBLOCK.rawValue)
        let socket = FileDescriptor(owning: try check("make a unix socket") { Glibc.socket(AF_UNIX, blocking, 0) })
        let raw = socket.raw
        // Zero would mean to wait for ever.
        let wait = Swift.max(milliseconds, 1)
        var timeout = timeval(tv_sec: wait / 1000, tv_usec: wait % 1000 * 1000)
        try check("SO_SNDTIMEO") {
            setsockopt(raw, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        }
        try withAddress(path) { (address, length) throws(SystemError) in
            try check("connect to \(path)") { Glibc.connect(raw, address, length) }
        }
        let flags = try check("F_GETFL") { apus_fcntl(raw, F_GETFL, 0) }
        try check("F_SETFL") { apus_fcntl(raw, F_SETFL, flags | O_NONBLOCK) }
        return SeqpacketSocket(owning: socket)
    }

    /// Makes room for packets of up to `bytes`: the kernel's default refuses what is longer than some 200 KiB.
    /// Beyond the system's limit (`net.core.wmem_max`) only with CAP_NET_ADMIN.
    public borrowing func raiseSendBuffer(to bytes: Int) throws(SystemError) {
        // The kernel doubles the value for its bookkeeping, which still counts against the packet.
        var size = CInt(clamping: bytes + (64 << 10))
        let raw = raw
        let length = socklen_t(MemoryLayout<CInt>.size)
        if setsockopt(raw, SOL_SOCKET, SO_SNDBUFFORCE, &size, length) == 0 { return }
        try check("SO_SNDBUF") { setsockopt(raw, SOL_SOCKET, SO_SNDBUF, &size, length) }
    }

    /// Binds and listens at `path`, which must not exist, with the given permissions from the start.
    public static func listen(path: String, mode: mode_t, backlog: CInt = 64) throws(SystemError) -> SeqpacketSocket {
        let socket = FileDescriptor(owning: try check("make a unix socket") { Glibc.socket(AF_UNIX, kind, 0) })
        let raw = socket.raw
        // On a unix socket fchmod before bind gives the file its permissions without a moment in between.
        try check("fchmod") { fchmod(raw, mode) }
        try withAddress(path) { (address, length) throws(SystemError) in
            try check("bind to \(path)") { Glibc.bind(raw, address, length) }
        }
        try check("chmod \(path)") { chmod(path, mode) }
        try check("listen at \(path)") { Glibc.listen(raw, backlog) }
        return SeqpacketSocket(owning: socket)
    }

    /// Listens anew on a listener that another process made: who connects from now on sees this process as its peer.
    public borrowing func listenAgain(backlog: CInt = 64) throws(SystemError) {
        let raw = raw
        try check("listen") { Glibc.listen(raw, backlog) }
    }

    /// `nil` when nobody is waiting.
    public borrowing func accept() throws(SystemError) -> SeqpacketSocket? {
        guard let accepted = try Sockets.accept(raw) else { return nil }
        return SeqpacketSocket(owning: accepted.takeDescriptor())
    }

    public borrowing func peerCredentials() throws(SystemError) -> PeerCredentials {
        var (pid, uid, gid): (Int32, UInt32, UInt32) = (0, 0, 0)
        let raw = raw
        try check("SO_PEERCRED") { apus_peer_credentials(raw, &pid, &uid, &gid) }
        return PeerCredentials(pid: pid, uid: uid, gid: gid)
    }

    /// Sends one packet whole.
    /// - Throws: `EAGAIN` when the receiver has too much unread, `EPIPE` when it is gone, `EMSGSIZE` when the packet is
    ///   larger than the send buffer.
    public borrowing func send(_ bytes: [UInt8], descriptors: [CInt] = []) throws(SystemError) {
        let raw = raw
        _ = try check("send a packet of \(bytes.count) bytes") {
            bytes.withUnsafeBytes {
                apus_send_descriptors(raw, $0.baseAddress, $0.count, descriptors, descriptors.count)
            }
        }
    }

    /// Receives one packet of at most `limit` bytes; an empty packet without descriptors means the peer has closed.
    /// - Returns: `nil` when nothing is waiting.
    public borrowing func receive(limit: Int, descriptorLimit: Int = 253) throws(SystemError) -> Packet? {
        let raw = raw
        var descriptors = [CInt](repeating: -1, count: descriptorLimit)
        var count = 0
        var truncated = false
        var failure: CInt = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, used in
            var got: Int
            repeat {
                got = apus_receive_descriptors(
                    raw, buffer.baseAddress, limit, &descriptors, descriptorLimit, &count, &truncated)
            } while got < 0 && errno == EINTR
            failure = got < 0 ? errno : 0
            used = Swift.max(got, 0)
        }
        if failure == EAGAIN { return nil }
        if failure != 0 { throw SystemError("receive a packet", code: failure) }
        return Packet(bytes: bytes, descriptors: Array(descriptors.prefix(count)), truncated: truncated)
    }

    /// What the peer has not read yet, as the kernel counts it (SIOCOUTQ): its own measure of each packet, not bytes.
    public borrowing func unreadByPeer() throws(SystemError) -> CInt {
        var value: CInt = 0
        let raw = raw
        try check("SIOCOUTQ") { apus_ioctl_int(raw, UInt(TIOCOUTQ), &value) }
        return value
    }

    /// Waits until a packet (or the end) is there.
    /// - Returns: Whether it came in time.
    public borrowing func waitReadable(milliseconds: Int) throws(SystemError) -> Bool {
        try wait(for: Int16(POLLIN), milliseconds: milliseconds)
    }

    public borrowing func waitWritable(milliseconds: Int) throws(SystemError) -> Bool {
        try wait(for: Int16(POLLOUT), milliseconds: milliseconds)
    }

    private borrowing func wait(for events: Int16, milliseconds: Int) throws(SystemError) -> Bool {
        let deadline = MonotonicClock.now + UInt64(Swift.max(milliseconds, 0)) * 1_000_000
        while true {
            var entry = pollfd(fd: raw, events: events, revents: 0)
            let now = MonotonicClock.now
            let left = deadline > now ? (deadline - now + 999_999) / 1_000_000 : 0
            let result = poll(&entry, 1, CInt(Swift.min(left, 1 << 30)))
            if result > 0 { return true }
            if result == 0 { return false }
            if errno != EINTR { throw SystemError("poll") }
        }
    }

    private static func withAddress(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) throws(SystemError) -> Void
    ) throws(SystemError) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard !bytes.isEmpty, bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.contains(0) else {
            throw SystemError("the socket path \(path) is empty or longer than 107 bytes", code: ENAMETOOLONG)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        try withUnsafePointer(to: &address) { pointer throws(SystemError) in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer throws(SystemError) in
                try body(pointer, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}
