import Addressing
import Glibc
import LinuxNetwork

/// A TCP connection to a DNS server that is not ours to answer, on its way to the server that the client wanted: dynamic
/// updates and zone transfers are of no use to the pod's resolver.
final class ForeignRelay {
    private enum Stage {
        case dialing(Dial)
        case relaying(PlainRelay)
        case over
    }

    private let proxy: PodProxy
    private let first: [UInt8]
    private var stage = Stage.over
    private var client: FileDescriptor?
    private var done: (() -> Void)?

    /// - Parameter first: what has been read from the client already.
    init(_ proxy: PodProxy, first: [UInt8], done: @escaping () -> Void) {
        self.proxy = proxy
        self.first = first
        self.done = done
    }

    /// Where a redirected connection was meant to go; `nil` when that is nowhere but here.
    static func server(of fd: CInt, source: Endpoint, in proxy: PodProxy) -> Endpoint? {
        guard let server = Sockets.originalDestination(fd) ?? Sockets.localEndpoint(fd),
            server.port != ZtunnelPort.dns,
            let workload = proxy.localWorkload(in: proxy.services.store.snapshot())
        else { return nil }
        return NameServers.allowed([server], client: source.address, workload).first
    }

    func start(_ client: consuming FileDescriptor, to server: Endpoint) {
        self.client = consume client
        let dial = Dial(loop: proxy.loop, to: server, from: nil) { [weak self] in self?.dialed($0) }
        stage = .dialing(dial)
        dial.start(from: proxy.stock, timeout: proxy.configuration.connectTimeout)
    }

    private func dialed(_ result: Result<DialedSocket, Dial.Failure>) {
        guard case .success(let socket) = result, let client = client.take() else { return over() }
        // A socket that has just connected has room for a message.
        guard send(socket.raw, first, first.count, CInt(MSG_NOSIGNAL)) == first.count else { return over() }
        let relay = PlainRelay(loop: proxy.loop) { _, _ in
        } completion: { [weak self] _ in
            self?.over()
        }
        stage = .relaying(relay)
        relay.start(client, socket.take())
    }

    func abort() {
        done = nil
        switch stage {
        case .dialing(let dial): dial.cancel()
        case .relaying(let relay): relay.abort()
        case .over: break
        }
        stage = .over
    }

    private func over() {
        stage = .over
        if let client = client.take() { Sockets.resetOnClose(client.raw) }
        let done = done
        self.done = nil
        done?()
    }
}
