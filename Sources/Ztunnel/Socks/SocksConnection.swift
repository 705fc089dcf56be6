import Addressing
import DNS
import Glibc
import LinuxNetwork
import Mesh

/// A connection to a pod's port 15080, on loopback: the application says by SOCKS5 where it wants to go, and from then on
/// it is a connection like one that was captured.
///
/// As in Istio's ztunnel the application is told of success before its connection is there: what becomes of it shows as
/// the end of the connection.
final class SocksConnection: EventHandler, TimerHandler {
    /// From the connection to the end of the negotiation, its name's resolution included.
    static let timeout = Duration.seconds(10)

    private unowned let proxy: PodProxy
    private var descriptor: FileDescriptor?
    private let fd: CInt
    private let client: Endpoint?
    private var exchange = SocksExchange()
    private var gathered: [UInt8] = []
    private var registration: EventLoop.Registration?
    private var timer: TimerID?

    init(_ proxy: PodProxy, _ accepted: consuming Sockets.Accepted) {
        self.proxy = proxy
        client = accepted.peer
        let descriptor = accepted.takeDescriptor()
        fd = descriptor.raw
        self.descriptor = consume descriptor
    }

    func start() {
        do { registration = try proxy.loop.register(fd, .connection, self) } catch { return close() }
        timer = proxy.loop.schedule(after: Self.timeout, self)
    }

    func timerFired(tag: Int) {
        timer = nil
        close()
    }

    func ready(_ events: ReadyEvents) {
        var chunk = [UInt8](repeating: 0, count: 257)
        while registration != nil {
            // Exactly what is wanted: what comes behind is for whoever is connected to.
            let got = recv(fd, &chunk, exchange.wanted - gathered.count, 0)
            if got < 0, errno == EINTR { continue }
            if got < 0, errno == EAGAIN { return }
            guard got > 0 else { return close() }
            gathered += chunk[..<got]
            guard gathered.count == exchange.wanted else { continue }
            let message = gathered
            gathered = []
            switch exchange.take(message) {
            case .goOn(let reply): if !send(reply) { return close() }
            case .refuse(let reply):
                _ = send(reply)
                return close()
            case .connect(let target):
                stopListening()
                return connect(to: target)
            }
        }
    }

    private func send(_ bytes: [UInt8]) -> Bool {
        // A few bytes on a new connection: there is room, or something is wrong with it.
        bytes.isEmpty || Glibc.send(fd, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count
    }

    // MARK: Where to

    private func connect(to target: SocksExchange.Target) {
        switch target {
        case .address(let endpoint): goOn(to: endpoint)
        case .host(let name, let port):
            proxy.withLocalWorkload { [weak self] workload in self?.resolve(name, port, for: workload) }
        }
    }

    /// By what the mesh knows, as a DNS question would be; other names by ztunnel's own name servers.
    private func resolve(_ name: String, _ port: UInt16, for workload: Workload?) {
        guard descriptor != nil else { return }
        guard let workload, let question = DNSName(name) else { return refuse(.generalFailure) }
        let wantsV4 = client?.address.canonical.isV4 ?? true
        let resolver = Resolver(
            client: proxy.dnsClient(of: workload, searchDomains: nil), mesh: proxy.services.store.snapshot())
        let known = resolver.resolve(
            DNSMessage.Question(question, wantsV4 ? .a : .aaaa),
            using: &proxy.worker.random)
        guard case .answer(let answer) = known else {
            return proxy.worker.hosts.resolve(name) { [weak self] result in
                // What went wrong the reply's code tells.
                self?.resolved((try? result.get())?.first { $0.isV4 == wantsV4 }, port)
            }
        }
        let addresses = answer.records.compactMap { record in
            if case .address(let address) = record.data { address } else { nil }
        }
        resolved(addresses.first, port)
    }

    private func resolved(_ address: IPAddress?, _ port: UInt16) {
        guard descriptor != nil else { return }
        guard let address else { return refuse(.hostUnreachable) }
        goOn(to: Endpoint(address, port))
    }

    private func goOn(to endpoint: Endpoint) {
        guard send(SocksExchange.Reply.succeeded.bytes), let descriptor = descriptor.take() else { return close() }
        let proxy = proxy
        end()
        proxy.connect(descriptor, of: client, to: endpoint)
    }

    private func refuse(_ reply: SocksExchange.Reply) {
        _ = send(reply.bytes)
        close()
    }

    // MARK: The end

    private func stopListening() {
        if let registration { proxy.loop.deregister(registration) }
        registration = nil
    }

    /// Closes the connection, unless it has gone on.
    func close() {
        end()
        descriptor = nil
    }

    private func end() {
        stopListening()
        if let timer { proxy.loop.cancel(timer) }
        timer = nil
        proxy.ended(self)
    }
}
