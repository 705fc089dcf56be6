import Addressing
import Glibc
import Handover
import LinuxNetwork
import Logging

/// Makes pods' sockets inside their network namespaces, for a control side that speaks plain ZDS and sends the namespace
/// alone, as Istio's node agent does. Needs CAP_SYS_ADMIN to enter a namespace, CAP_NET_ADMIN or CAP_NET_RAW for marks
/// and transparency.
///
/// In ztunnel's own namespace it takes no capability.
///
/// What comes out is what the keeper hands over: listeners, and a stock that a thread of its own keeps filled.
final class PodSocketMaker: Sendable {
    private let options: PodSockets.Options
    private let stocks: EventLoopThread<OwnStocks>
    private let home: NamespaceID
    /// Where the DNS proxy listens; nowhere where there is none.
    private let dnsAddresses: [Endpoint]
    private let hasSocks: Bool
    /// Whether there is a data path beside the DNS proxy.
    private let hasProxy: Bool
    private let logger: Logger

    /// Starts the thread, after it has been proven that the process may do all that is needed.
    /// - Throws: ``HandedPodError``, naming the capability that is missing.
    init(_ configuration: ZtunnelConfiguration, logger: Logger) throws {
        var options = PodSockets.Options(configuration)
        let mark = configuration.packetMark ?? Mark.ztunnel
        options.mark = mark
        self.options = options
        self.logger = logger
        dnsAddresses = configuration.dnsProxyEnabled ? configuration.dnsListenAddresses : []
        hasSocks = configuration.socksEnabled
        hasProxy = configuration.proxyEnabled
        home = try Self.proveCapabilities(mark: mark)
        stocks = try EventLoopThread(name: "pod-sockets") { OwnStocks($0, logger: logger) }
    }

    /// For sockets of ztunnel's own namespace, see ``makeOwn(_:capturing:)``. Without CAP_NET_ADMIN or CAP_NET_RAW
    /// applications see ztunnel's address instead of the client's.
    /// - Throws: ``HandedPodError`` when that is not what `ENABLE_ORIG_SRC` asks for.
    init(own configuration: ZtunnelConfiguration, logger: Logger) throws {
        var options = PodSockets.Options(configuration)
        options.mark = configuration.isDedicated ? configuration.packetMark : nil
        if let mark = options.mark {
            do throws(SystemError) { try PodSockets.prove(mark: mark) } catch {
                throw HandedPodError(
                    "PACKET_MARK=\(mark): cannot mark a socket: \(error); the process needs CAP_NET_ADMIN, and "
                        + "--own-sockets to keep it")
            }
        }
        do throws(SystemError) {
            options.isTransparent = configuration.isDedicated && configuration.keepsOriginalSource != false
            if options.isTransparent { try PodSockets.proveTransparency() }
        } catch {
            guard configuration.keepsOriginalSource == nil else {
                throw HandedPodError(
                    "ENABLE_ORIG_SRC=true: cannot make a socket transparent: \(error); the process needs CAP_NET_ADMIN "
                        + "or CAP_NET_RAW, and --own-sockets to keep it")
            }
            options.isTransparent = false
        }
        self.options = options
        self.logger = logger
        let serves = configuration.isDedicated
        dnsAddresses = serves && configuration.dnsProxyEnabled ? configuration.dnsListenAddresses : []
        hasSocks = serves && configuration.socksEnabled
        hasProxy = configuration.proxyEnabled
        home = try NetworkNamespace.current().id
        stocks = try EventLoopThread(name: "own-sockets") { OwnStocks($0, logger: logger) }
    }

    deinit { stocks.stop() }

    private static func proveCapabilities(mark: UInt32) throws -> NamespaceID {
        func prove(_ what: String, _ capability: String, _ body: () throws(SystemError) -> Void) throws {
            do throws(SystemError) { try body() } catch {
                throw HandedPodError(
                    "--own-sockets: cannot \(what): \(error); the process needs \(capability). Without it, run ztunnel "
                        + "beside apus-sockets and without --own-sockets")
            }
        }
        let home = try NetworkNamespace.current()
        try prove("enter a network namespace", "CAP_SYS_ADMIN") { () throws(SystemError) in try home.reenter() }
        try prove("make a socket transparent", "CAP_NET_ADMIN or CAP_NET_RAW", PodSockets.proveTransparency)
        try prove("mark a socket", "CAP_NET_ADMIN") { () throws(SystemError) in try PodSockets.prove(mark: mark) }
        return home.id
    }

    /// Takes what came with an addition for a pod's network namespace.
    /// - Throws: ``HandedPodError`` when it is something else, or ztunnel's own.
    func namespace(_ descriptor: consuming FileDescriptor) throws -> PodNetwork {
        let network = PodNetwork(try NetworkNamespace(owning: descriptor))
        guard network.id != home else {
            throw HandedPodError("the network namespace sent is ztunnel's own; a pod of the host network has no proxy")
        }
        return network
    }

    /// The sockets of ztunnel's own pod or of the workload that it is dedicated to, listening.
    /// - Parameter capturing: Whether what is captured is served too, and DNS; else port 15008 alone.
    func makeOwn(_ workload: OwnWorkload, in network: PodNetwork?, capturing: Bool) throws -> HandedPod {
        let info = ZDSWorkloadInfo(
            name: workload.name, namespace: workload.namespace, serviceAccount: workload.serviceAccount)
        return try make(
            uid: "own", info: info, in: try network ?? PodNetwork(try NetworkNamespace.current()), capturing: capturing)
    }

    /// The pod's sockets, listening. Called off the workers: it enters the namespace with the calling thread.
    func make(
        uid: String, info: ZDSWorkloadInfo, in network: PodNetwork, capturing: Bool = true
    ) throws -> HandedPod {
        var options = options
        if options.dualStack { options.dualStack = try network.value.run { Sockets.kernelHasIPv6 } }
        let made = options
        let hbone = hasProxy ? ListeningSocket(try listener(ZtunnelPort.hbone, made, network)) : nil
        let captured =
            capturing && hasProxy
            ? CapturedListeners(
                outbound: try listener(ZtunnelPort.outbound, made, network),
                inboundPlaintext: try listener(ZtunnelPort.inboundPlaintext, made, network)) : nil
        let socks =
            hasSocks && hasProxy
            ? ListeningSocket(try listener(ZtunnelPort.socks, made, network, on: .loopbackV4)) : nil
        let dns = dnsAddresses.isEmpty ? nil : try dnsSockets(uid: uid, made, network)
        let far = try stock(of: .stream, uid: uid, made, network)
        return HandedPod(
            uid: uid, info: info, network: network.id, captured: captured, hbone: hbone, socks: socks, stock: far,
            dns: dns, mayKeepClientAddress: options.isTransparent)
    }

    /// The far end of a stock that is kept filled from now on.
    private func stock(
        of kind: OwnStocks.Kind, uid: String, _ options: PodSockets.Options, _ network: PodNetwork
    ) throws -> SeqpacketSocket {
        let pair = try SeqpacketSocket.Pair()
        let near = SocketEnd(SeqpacketSocket(owning: try pair.first.descriptor.duplicate()))
        let far = SeqpacketSocket(owning: try pair.second.descriptor.duplicate())
        let accepted = stocks.submit { $0.keep(near, of: kind, filledFrom: network, options, for: uid) }
        guard accepted else { throw HandedPodError("the thread that makes sockets has ended") }
        return far
    }

    /// The DNS proxy's sockets; without those on ::1 where it cannot be had (IPv6 off on lo).
    private func dnsSockets(
        uid: String, _ options: PodSockets.Options, _ network: PodNetwork
    ) throws -> DNSSockets {
        var (datagrams, listeners): ([CInt], [CInt]) = ([], [])
        let stock = try stock(of: .datagram, uid: uid, options, network)
        do {
            for endpoint in dnsAddresses where endpoint.address.isV4 || options.dualStack {
                do throws(SystemError) {
                    datagrams.append(
                        try made(in: network) { () throws(SystemError) in
                            try PodSockets.dnsDatagram(on: endpoint.address, port: endpoint.port, options).release()
                        })
                    listeners.append(
                        try made(in: network) { () throws(SystemError) in
                            try PodSockets.loopbackListener(on: endpoint, options).release()
                        })
                } catch {
                    guard dnsAddresses.count > 1, !endpoint.address.isV4,
                        error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT
                    else { throw error }
                }
            }
        } catch let error as SystemError where error.code == EADDRINUSE {
            for descriptor in datagrams + listeners { _ = close(descriptor) }
            throw HandedPodError(
                "port \(dnsAddresses.first?.port ?? 0) of the pod is in use: by the application, or by another ztunnel without "
                    + "INPOD_PORT_REUSE")
        } catch {
            for descriptor in datagrams + listeners { _ = close(descriptor) }
            throw error
        }
        return .own(datagrams: datagrams, listeners: listeners, stock: stock)
    }

    private func made(
        in network: PodNetwork, _ body: () throws(SystemError) -> CInt
    ) throws(SystemError) -> CInt {
        do {
            return try network.value.run(body)
        } catch let error as SystemError {
            throw error
        } catch {
            throw SystemError("make a socket in a pod: \(error)", code: 0)
        }
    }

    private func listener(
        _ port: UInt16, _ options: PodSockets.Options, _ network: PodNetwork, on address: IPAddress? = nil
    ) throws -> FileDescriptor {
        do {
            return FileDescriptor(
                owning: try network.value.run { () throws(SystemError) in
                    guard let address else { return try PodSockets.listener(on: port, options).release() }
                    return try PodSockets.loopbackListener(on: Endpoint(address, port), options).release()
                })
        } catch let error as SystemError where error.code == EADDRINUSE {
            throw HandedPodError(
                "port \(port) of the pod is in use: by the application, or by another ztunnel without "
                    + "INPOD_PORT_REUSE")
        }
    }
}

extension PodSockets.Options {
    /// What is configured for sockets of every kind.
    init(_ configuration: ZtunnelConfiguration) {
        self.init(dualStack: configuration.ipv6Enabled)
        reusesPorts = configuration.reusesPorts
        keepAlive = configuration.silenceLimits.keepAlive
    }
}

/// A pod's network namespace, held as long as somebody makes sockets in it.
final class PodNetwork: Sendable {
    let value: NetworkNamespace
    var id: NamespaceID { value.id }

    init(_ value: consuming NetworkNamespace) { self.value = value }
}
