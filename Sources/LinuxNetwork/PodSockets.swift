import Addressing
import Glibc

/// The sockets of a pod's proxy, made in the calling thread's network namespace with all that the data path has no
/// privilege for: the mark that keeps their packets from being captured again, and the right to speak from addresses
/// that are not the pod's own.
public enum PodSockets {
    /// What all of them have in common.
    public struct Options: Hashable, Sendable {
        /// On listeners too: what they accept inherits it. `nil` sets none.
        public var mark: UInt32? = Mark.ztunnel
        /// Whether they may speak from others' addresses, and accept what is meant for others.
        public var isTransparent = true
        /// AF_INET6 sockets that take IPv4 as well.
        public var dualStack: Bool
        /// Lets the next ztunnel bind the ports of one that drains.
        public var reusesPorts = false
        public var keepAlive: KeepAlive? = KeepAlive()

        public init(dualStack: Bool) { self.dualStack = dualStack }
    }

    /// Seconds of silence before the first probe, seconds between probes, probes before a connection is given up.
    public struct KeepAlive: Hashable, Sendable {
        public var idle: CInt = 180
        public var interval: CInt = 180
        public var count: CInt = 9

        public init() {}
    }

    /// A listener on every address. Accepted sockets inherit mark, transparency and no-delay.
    public static func listener(
        on port: UInt16, _ options: Options, backlog: CInt = 4096
    ) throws(SystemError) -> FileDescriptor {
        let socket = try Sockets.tcp(dualStack: options.dualStack)
        try Sockets.setReuseAddress(socket.raw)
        if options.reusesPorts { try Sockets.setReusePort(socket.raw) }
        if options.isTransparent { try Sockets.setTransparent(socket.raw) }
        try mark(socket, options)
        try Sockets.setNoDelay(socket.raw)
        try Sockets.bind(
            socket.raw, to: Endpoint(options.dualStack ? .anyV6 : .anyV4, port), dualStack: options.dualStack)
        try Sockets.listen(socket.raw, backlog: backlog)
        return socket
    }

    /// That the process may make a socket transparent.
    /// - Throws: `EPERM` without CAP_NET_ADMIN and CAP_NET_RAW.
    public static func proveTransparency() throws(SystemError) {
        let probe = try Sockets.tcp(dualStack: false)
        try Sockets.setTransparent(probe.raw)
    }

    /// That the process may mark a socket.
    /// - Throws: `EPERM` without CAP_NET_ADMIN and CAP_NET_RAW.
    public static func prove(mark: UInt32) throws(SystemError) {
        let probe = try Sockets.tcp(dualStack: false)
        try Sockets.setMark(probe.raw, mark)
    }

    /// Marks the socket, and seals it where that can be done: who may mark it need not be allowed to.
    private static func mark(_ socket: borrowing FileDescriptor, _ options: Options) throws(SystemError) {
        guard let mark = options.mark else { return }
        try Sockets.setMark(socket.raw, mark)
        do {
            try Sockets.sealIfPossible(socket.raw)
        } catch {
            guard error.code == EPERM else { throw error }
        }
    }

    /// A UDP socket of the DNS proxy, on a loopback address: redirection leads there, and nobody outside of the pod can ask.
    /// Where redirection does not translate it is told whom was asked, and answers in that one's name.
    public static func dnsDatagram(
        on address: IPAddress, port: UInt16 = ZtunnelPort.dns, _ options: Options
    ) throws(SystemError) -> FileDescriptor {
        let socket = try Sockets.udp(dualStack: !address.isV4)
        if !address.isV4 { try Sockets.setV6Only(socket.raw, true) }
        if options.reusesPorts { try Sockets.setReusePort(socket.raw) }
        try Sockets.tellDestination(socket.raw, v6: !address.isV4)
        try mark(socket, options)
        if options.isTransparent { try Sockets.setTransparent(socket.raw) }
        try Sockets.bind(socket.raw, to: Endpoint(address, port), dualStack: !address.isV4)
        return socket
    }

    /// The same for TCP, listening.
    public static func dnsListener(on address: IPAddress, _ options: Options) throws(SystemError) -> FileDescriptor {
        try loopbackListener(on: Endpoint(address, ZtunnelPort.dns), options)
    }

    /// A listener for the pod alone, on one of its loopback addresses.
    public static func loopbackListener(
        on endpoint: Endpoint, _ options: Options
    ) throws(SystemError) -> FileDescriptor {
        let address = endpoint.address
        let socket = try Sockets.tcp(dualStack: !address.isV4)
        if !address.isV4 { try Sockets.setV6Only(socket.raw, true) }
        try Sockets.setReuseAddress(socket.raw)
        if options.reusesPorts { try Sockets.setReusePort(socket.raw) }
        try Sockets.setNoDelay(socket.raw)
        try mark(socket, options)
        if options.isTransparent { try Sockets.setTransparent(socket.raw) }
        try Sockets.bind(socket.raw, to: endpoint, dualStack: !address.isV4)
        try Sockets.listen(socket.raw, backlog: 1024)
        return socket
    }

    /// A UDP socket to ask name servers with.
    public static func outgoingDatagram(_ options: Options) throws(SystemError) -> FileDescriptor {
        let socket = try Sockets.udp(dualStack: options.dualStack)
        try mark(socket, options)
        return socket
    }

    /// A socket to connect with, not bound yet.
    public static func outgoing(_ options: Options) throws(SystemError) -> FileDescriptor {
        let socket = try Sockets.tcp(dualStack: options.dualStack)
        try mark(socket, options)
        if options.isTransparent { try Sockets.setTransparent(socket.raw) }
        try Sockets.setBindAddressNoPort(socket.raw)
        try Sockets.setNoDelay(socket.raw)
        if let keepAlive = options.keepAlive {
            try Sockets.setKeepAlive(
                socket.raw, idle: keepAlive.idle, interval: keepAlive.interval, count: keepAlive.count)
        }
        return socket
    }
}
