import Addressing
import Glibc
import Handover
import LinuxNetwork

/// A pod's network namespace, held by the pod and its stocks.
final class SharedNamespace {
    let value: NetworkNamespace

    init(_ value: consuming NetworkNamespace) { self.value = value }

    func run<Result>(_ body: () throws -> Result) throws -> Result { try value.run(body) }
}

/// A pod in the keeper's care: its namespace, its listeners, its stocks.
final class Pod {
    /// All that can be handed over, for the longest message there can be.
    static let everyKind: [HandoverDescriptor] = [
        .listenerOutbound, .listenerInboundPlaintext, .listenerHBONE, .listenerDNSUDP, .listenerDNSTCP,
        .listenerDNSUDP, .listenerDNSTCP, .stock, .stockDatagram,
    ]

    static let ports: [(HandoverDescriptor, UInt16)] = [
        (.listenerOutbound, ZtunnelPort.outbound), (.listenerInboundPlaintext, ZtunnelPort.inboundPlaintext),
        (.listenerHBONE, ZtunnelPort.hbone),
    ]

    var description: KeeperPod
    let namespace: SharedNamespace
    private var stock: Stock
    /// Only where DNS is captured.
    private var datagramStock: Stock?
    private let makeStock: (Stock.Kind, StockPair?) throws -> Stock
    private let dualStack: Bool
    private var listeners: [Listener] = []
    private var dnsListeners: [Listener] = []
    /// What the agent knows about this pod.
    var reported: PodStatus?

    var uid: String { description.uid }
    var isListening: Bool { !listeners.isEmpty }

    /// Makes the stocks, and the listeners unless a ztunnel that makes its own is in charge.
    /// - Parameter inherited: Those of a keeper before, taken instead of new ones. A failure leaves them as they are.
    init(
        _ loop: EventLoop, _ log: Log, _ pod: KeeperPod, _ namespace: SharedNamespace, listening: Bool,
        inherited: InheritedListeners? = nil
    ) throws {
        description = pod
        self.namespace = namespace
        dualStack = try namespace.run { pod.dualStack && Sockets.kernelHasIPv6 }
        let dualStack = dualStack
        makeStock = {
            try Stock(
                loop, log, uid: pod.uid, kind: $0, namespace: namespace, dualStack: dualStack, inherited: $1)
        }
        stock = try makeStock(.stream, nil)
        do {
            if pod.dns { datagramStock = try makeStock(.datagram, nil) }
            if listening {
                listeners = inherited?.captured ?? []
                if pod.dns { dnsListeners = inherited?.dns ?? [] }
                try listen()
            }
        } catch {
            if inherited != nil { (listeners, dnsListeners) = ([], []) }
            end()
            throw error
        }
    }

    /// Goes on with the sockets of the keeper before. A failure leaves them as they are, in ztunnel's hands.
    init(_ loop: EventLoop, _ log: Log, adopting pod: InheritedPod) throws {
        (description, namespace, dualStack) = (pod.description, pod.namespace, pod.dualStack)
        let (uid, namespace, dualStack) = (pod.description.uid, pod.namespace, pod.dualStack)
        makeStock = {
            try Stock(loop, log, uid: uid, kind: $0, namespace: namespace, dualStack: dualStack, inherited: $1)
        }
        stock = try makeStock(.stream, pod.stock)
        datagramStock = try pod.datagramStock.map { try makeStock(.datagram, $0) }
        listeners = pod.listeners.captured
        dnsListeners = pod.listeners.dns
    }

    /// What the agent keeps copies of.
    var allListeners: [Listener] { listeners + dnsListeners }

    /// What goes with AddWorkload when sockets are handed over, in this order.
    var handedOver: [(kind: HandoverDescriptor, descriptor: CInt)] {
        var all = allListeners.map { (kind: $0.kind, descriptor: $0.socket.raw) }
        all.append((kind: .stock, descriptor: stock.descriptor))
        if let datagramStock { all.append((kind: .stockDatagram, descriptor: datagramStock.descriptor)) }
        return all
    }

    /// What the next keeper gets, in this order.
    var kept: (pod: KeptPod, descriptors: [CInt]) {
        var all: [(kind: HandoverDescriptor, descriptor: CInt)] = [(.namespace, namespace.value.raw)]
        all += handedOver
        all.append((.stockSource, stock.source))
        if let datagramStock { all.append((.stockDatagramSource, datagramStock.source)) }
        let pod = KeptPod(
            pod: description, descriptors: all.map(\.kind), stockTarget: UInt32(stock.target),
            datagramTarget: UInt32(datagramStock?.target ?? 0))
        return (pod, all.map(\.descriptor))
    }

    func listen() throws {
        if !isListening {
            listeners = try namespace.run {
                try Self.ports.map { Listener($0, try Self.listener(on: $1, dualStack)) }
            }
        }
        guard description.dns, dnsListeners.isEmpty else { return }
        dnsListeners = try namespace.run { try DNSListeners.make(dualStack: dualStack) }
    }

    /// Begins to serve the pod's DNS, or ends it.
    func captureDNS(_ capture: Bool) throws {
        guard capture else {
            for listener in dnsListeners { listener.shutDown() }
            dnsListeners = []
            datagramStock?.end()
            datagramStock = nil
            return
        }
        if datagramStock == nil { datagramStock = try makeStock(.datagram, nil) }
        if isListening { try listen() }
    }

    /// Sees to it that there is something to hand over. A ztunnel may have shut down what it had copies of, by mistake or
    /// not: the next one gets new ones.
    func mend() throws {
        if !allListeners.allSatisfy(\.isAlive) { stopListening() }
        try listen()
        if stock.isBroken {
            stock.end()
            stock = try makeStock(.stream, nil)
        }
        if let broken = datagramStock, broken.isBroken {
            broken.end()
            datagramStock = try makeStock(.datagram, nil)
        }
    }

    /// Ends the listeners for everyone: shutdown(2) reaches the copies that a ztunnel may still have.
    func stopListening() {
        for listener in allListeners { listener.shutDown() }
        listeners = []
        dnsListeners = []
    }

    func end() {
        stopListening()
        stock.end()
        datagramStock?.end()
    }

    /// Accepted sockets inherit mark, transparency and no-delay.
    private static func listener(on port: UInt16, _ dualStack: Bool) throws(SystemError) -> FileDescriptor {
        let socket = try Sockets.tcp(dualStack: dualStack)
        try Sockets.setReuseAddress(socket.raw)
        try Sockets.setTransparent(socket.raw)
        try Sockets.setMark(socket.raw, Mark.ztunnel)
        try Sockets.sealIfPossible(socket.raw)
        try Sockets.setNoDelay(socket.raw)
        try Sockets.bind(
            socket.raw, to: Endpoint(dualStack ? .anyV6 : .anyV4, port), dualStack: dualStack)
        try Sockets.listen(socket.raw, backlog: 4096)
        return socket
    }
}
