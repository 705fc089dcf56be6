import Addressing
import Glibc
import Handover
import LinuxNetwork

/// A pod's network namespace, held by the pod and its stock.
final class SharedNamespace {
    let value: NetworkNamespace

    init(_ value: consuming NetworkNamespace) { self.value = value }

    func run<Result>(_ body: () throws -> Result) throws -> Result { try value.run(body) }
}

/// A pod in the keeper's care: its namespace, its listeners, its stock.
final class Pod {
    /// Closed with the last reference.
    private final class Listener {
        let socket: FileDescriptor

        init(_ socket: consuming FileDescriptor) { self.socket = socket }
    }

    /// In the order of ``handedOver``, which ends with the stock.
    private static let ports = [ZtunnelPort.outbound, ZtunnelPort.inboundPlaintext, ZtunnelPort.hbone]
    static let handedOver: [HandoverDescriptor] = [
        .listenerOutbound, .listenerInboundPlaintext, .listenerHBONE, .stock,
    ]

    var description: KeeperPod
    let namespace: SharedNamespace
    private var stock: Stock
    private let makeStock: () throws -> Stock
    private let dualStack: Bool
    private var listeners: [Listener] = []
    /// What the agent knows about this pod.
    var reported: PodStatus?

    var uid: String { description.uid }
    var isListening: Bool { !listeners.isEmpty }

    /// Makes the stock, and the listeners unless a ztunnel that makes its own is in charge.
    init(_ loop: EventLoop, _ log: Log, _ pod: KeeperPod, _ namespace: SharedNamespace, listening: Bool) throws {
        description = pod
        self.namespace = namespace
        dualStack = try namespace.run { pod.dualStack && Sockets.kernelHasIPv6 }
        let dualStack = dualStack
        makeStock = { try Stock(loop, log, uid: pod.uid, namespace: namespace, dualStack: dualStack) }
        stock = try makeStock()
        guard listening else { return }
        do {
            try listen()
        } catch {
            stock.end()
            throw error
        }
    }

    /// What goes with AddWorkload when sockets are handed over.
    var descriptorsToHandOver: [CInt] { listeners.map { $0.socket.raw } + [stock.descriptor] }

    func listen() throws {
        guard !isListening else { return }
        listeners = try namespace.run {
            try Self.ports.map { Listener(try Self.listener(on: $0, dualStack)) }
        }
    }

    /// Sees to it that there is something to hand over. A ztunnel may have shut down what it had copies of, by mistake or
    /// not: the next one gets new ones.
    func mend() throws {
        if !listeners.allSatisfy({ Sockets.isListening($0.socket.raw) }) { stopListening() }
        try listen()
        guard stock.isBroken else { return }
        stock.end()
        stock = try makeStock()
    }

    /// Ends the listeners for everyone: shutdown(2) reaches the copies that a ztunnel may still have.
    func stopListening() {
        for listener in listeners { _ = shutdown(listener.socket.raw, CInt(SHUT_RDWR)) }
        listeners = []
    }

    func end() {
        stopListening()
        stock.end()
    }

    /// Accepted sockets inherit mark, transparency and no-delay.
    private static func listener(on port: UInt16, _ dualStack: Bool) throws(SystemError) -> FileDescriptor {
        let socket = try Sockets.tcp(dualStack: dualStack)
        try Sockets.setReuseAddress(socket.raw)
        try Sockets.setTransparent(socket.raw, dualStack: dualStack)
        try Sockets.setMark(socket.raw, Mark.ztunnel)
        try Sockets.setNoDelay(socket.raw)
        try Sockets.bind(
            socket.raw, to: Endpoint(dualStack ? .anyV6 : .anyV4, port), dualStack: dualStack)
        try Sockets.listen(socket.raw, backlog: 4096)
        return socket
    }
}
