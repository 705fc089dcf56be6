import Glibc
import Handover
import LinuxNetwork

/// A pod whose sockets ztunnel has: who it is, its listening sockets, and the far end of its stock. The keeper hands
/// them over, or ``PodSocketMaker`` makes them.
///
/// The descriptors are owned here, shared by all workers, and closed when the last of them lets the pod go.
public final class HandedPod: Sendable {
    public let uid: String
    public let name: String
    public let namespace: String
    public let serviceAccount: String
    /// Which network namespace the sockets are in; not known of sockets that were handed over.
    let network: NamespaceID?

    /// Where what is captured comes in; nothing is captured from ztunnel's own pod.
    let captured: CapturedListeners?
    /// `nil` where nothing but DNS is served (`ENABLE_PROXY=false`).
    let hbone: ListeningSocket?
    /// Where SOCKS5 is served, on loopback; of sockets made here alone.
    let socks: ListeningSocket?
    /// Whether the sockets of the stock may speak from a client's address.
    let mayKeepClientAddress: Bool
    let stock: SeqpacketSocket
    /// Only where the pod's DNS is captured.
    let dns: DNSSockets?
    let sourcePorts = SourcePorts()

    /// What the sockets are, by the kernel's numbers, and whose: of two pods that are equal in this and open, one will do.
    var sockets: PodSocketSet {
        var sockets = listeners
        sockets.inodes += [stock.raw, dns?.stockDescriptor ?? -1].map(Self.inode)
        return sockets
    }

    /// The same without the stocks: a keeper that takes the place of one that was killed has other stocks.
    var listeners: PodSocketSet {
        let descriptors = streamListeners + (dns?.datagrams ?? [])
        return PodSocketSet(owner: [name, namespace, serviceAccount], inodes: descriptors.map(Self.inode))
    }

    private var streamListeners: [CInt] {
        capturedListeners + [hbone?.raw, socks?.raw].compactMap { $0 } + (dns?.listeners ?? [])
    }

    private var capturedListeners: [CInt] { captured.map { [$0.outbound.raw, $0.inboundPlaintext.raw] } ?? [] }

    /// For what is accepted of captured connections from now on.
    func apply(_ limits: SilenceLimits) { for listener in capturedListeners { limits.apply(to: listener) } }

    /// Ends the listeners, for all copies, while connections that came through them live on: the ports are free.
    func shutDownListeners() {
        for listener in streamListeners { Sockets.shutDown(listener) }
        // A UDP socket keeps its port until it is closed. The number stays ours until the pod is let go of, so that
        // nobody writes to what comes after it: something else takes it, at which nothing can be sent.
        guard let listener = streamListeners.first else { return }
        for datagram in dns?.datagrams ?? [] { _ = dup2(listener, datagram) }
    }

    private static func inode(_ fd: CInt) -> UInt64 {
        var info = stat()
        return fstat(fd, &info) == 0 ? UInt64(info.st_ino) : 0
    }

    /// Sorts a packet's descriptors by what the message says they are.
    /// - Throws: When the hand-over is incomplete or not offered; the text is sent back to the keeper.
    init(
        uid: String, info: ZDSWorkloadInfo, kinds: [HandoverDescriptor], packet: inout Packet
    ) throws(HandedPodError) {
        self.uid = uid
        name = info.name
        namespace = info.namespace
        serviceAccount = info.serviceAccount
        network = nil
        guard !kinds.isEmpty else {
            throw HandedPodError(
                "pod \(info.namespace)/\(info.name) came with a network namespace instead of its sockets; this ztunnel "
                    + "has no capability to enter one: run apus-sockets on the node, or ztunnel with --own-sockets")
        }
        guard kinds.count == packet.descriptors.count else {
            throw HandedPodError("\(kinds.count) descriptors are announced, \(packet.descriptors.count) came")
        }
        var outbound: FileDescriptor?
        var inboundPlaintext: FileDescriptor?
        var hbone: FileDescriptor?
        var stock: FileDescriptor?
        let dns = DNSSockets()
        for kind in kinds {
            switch kind {
            case .listenerOutbound: outbound = packet.takeDescriptor()
            case .listenerInboundPlaintext: inboundPlaintext = packet.takeDescriptor()
            case .listenerHBONE: hbone = packet.takeDescriptor()
            case .stock: stock = packet.takeDescriptor()
            case .listenerDNSUDP: dns.addDatagram(packet.takeDescriptor())
            case .listenerDNSTCP: dns.addListener(packet.takeDescriptor())
            case .stockDatagram: dns.setStock(packet.takeDescriptor())
            default: _ = packet.takeDescriptor()  // of a later version: not used, closed
            }
        }
        guard let outbound, let inboundPlaintext, let hbone, let stock else {
            throw HandedPodError("pod \(info.namespace)/\(info.name): a listener or the stock is missing")
        }
        captured = CapturedListeners(outbound: outbound, inboundPlaintext: inboundPlaintext)
        self.hbone = ListeningSocket(hbone)
        socks = nil
        mayKeepClientAddress = true
        self.stock = SeqpacketSocket(owning: stock)
        self.dns = dns.isComplete ? dns : nil
    }

    /// Of sockets made here.
    init(
        uid: String, info: ZDSWorkloadInfo, network: NamespaceID, captured: CapturedListeners?,
        hbone: ListeningSocket?, socks: ListeningSocket?, stock: consuming SeqpacketSocket,
        dns: DNSSockets?, mayKeepClientAddress: Bool
    ) {
        self.uid = uid
        name = info.name
        namespace = info.namespace
        serviceAccount = info.serviceAccount
        self.network = network
        self.captured = captured
        self.hbone = hbone
        self.socks = socks
        self.mayKeepClientAddress = mayKeepClientAddress
        self.stock = stock
        self.dns = dns
    }
}

/// Which sockets a pod is served by.
struct PodSocketSet: Hashable, Sendable {
    let owner: [String]
    var inodes: [UInt64]
}

/// One listener, shared by those who accept from it.
final class ListeningSocket: Sendable {
    private let descriptor: FileDescriptor
    var raw: CInt { descriptor.raw }

    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
}

/// The listeners that redirection leads to.
final class CapturedListeners: Sendable {
    let outbound: FileDescriptor
    let inboundPlaintext: FileDescriptor

    init(outbound: consuming FileDescriptor, inboundPlaintext: consuming FileDescriptor) {
        self.outbound = outbound
        self.inboundPlaintext = inboundPlaintext
    }
}

/// The sockets of a pod's DNS proxy: what queries come in by, and the stock of UDP sockets they go out by. Filled before
/// it is shared, and not changed after that.
final class DNSSockets: @unchecked Sendable {
    /// On 127.0.0.1, and on ::1 where the pod has it.
    private(set) var datagrams: [CInt] = []
    private(set) var listeners: [CInt] = []
    private var stockSocket: SeqpacketSocket?

    deinit { for descriptor in datagrams + listeners { _ = close(descriptor) } }

    fileprivate func addDatagram(_ descriptor: consuming FileDescriptor?) {
        if let descriptor { datagrams.append(descriptor.release()) }
    }

    fileprivate func addListener(_ descriptor: consuming FileDescriptor?) {
        if let descriptor { listeners.append(descriptor.release()) }
    }

    fileprivate func setStock(_ descriptor: consuming FileDescriptor?) {
        if let descriptor { stockSocket = SeqpacketSocket(owning: descriptor) }
    }

    /// Of sockets made here, which become this object's to close.
    static func own(
        datagrams: [CInt], listeners: [CInt], stock: consuming SeqpacketSocket
    ) -> DNSSockets {
        let sockets = DNSSockets()
        sockets.datagrams = datagrams
        sockets.listeners = listeners
        sockets.stockSocket = .some(stock)
        return sockets
    }

    fileprivate var isComplete: Bool { stockSocket != nil && !datagrams.isEmpty }

    /// The stock's number, to wait on.
    var stockDescriptor: CInt {
        switch stockSocket {
        case .some(let socket): socket.raw
        case .none: -1
        }
    }

    /// The next packet of the stock.
    func receiveFromStock(limit: Int) throws(SystemError) -> Packet? {
        switch stockSocket {
        case .some(let socket): try socket.receive(limit: limit)
        case .none: nil
        }
    }
}

/// Why a pod cannot be served, in words for the control side's and the operator's log.
struct HandedPodError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
