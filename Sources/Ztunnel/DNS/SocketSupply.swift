import LinuxNetwork

/// Where prepared sockets come from: a pod's stock, or ztunnel's own namespace.
protocol SocketSupply: AnyObject {
    /// A socket at once, if there is one.
    func take() -> PreparedSocket?
    /// Queues for the next socket. The waiter brings its own deadline.
    /// - Returns: False when too many wait already.
    func wait(_ waiter: any StockWaiter) -> Bool
}

extension SocketStock: SocketSupply {}

/// Sockets of ztunnel's own namespace, made when they are needed.
final class OwnSockets: SocketSupply {
    private let make: (Bool) throws(SystemError) -> FileDescriptor
    private let dualStack: Bool

    init(_ make: @escaping (_ dualStack: Bool) throws(SystemError) -> FileDescriptor) {
        self.make = make
        dualStack = Sockets.kernelHasIPv6
    }

    static var datagram: OwnSockets { OwnSockets { dual throws(SystemError) in try Sockets.udp(dualStack: dual) } }
    static var stream: OwnSockets { OwnSockets { dual throws(SystemError) in try Sockets.tcp(dualStack: dual) } }

    func take() -> PreparedSocket? {
        // Out of descriptors: as good as an empty stock, and whoever asked has a deadline.
        guard let descriptor = try? make(dualStack) else { return nil }
        return PreparedSocket(descriptor: descriptor, dualStack: dualStack)
    }

    func wait(_ waiter: any StockWaiter) -> Bool { false }
}
