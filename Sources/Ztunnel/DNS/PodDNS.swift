import Addressing
import DNS
import Handover
import LinuxNetwork
import Logging
import Mesh

/// One worker's part of a pod's DNS proxy: takes queries that were redirected to 15053, answers what the mesh knows, and
/// asks the pod's name servers for the rest, over sockets of the pod.
final class PodDNS {
    /// Queries of the pod that wait for something on this worker, and those of one of its sockets.
    static let waitingLimit = 1024
    static let sourceLimit = 128
    /// TCP connections of the pod on this worker.
    static let streamLimit = 128

    /// What belongs to a query until it is answered.
    struct Asked {
        let query: DNSQuery
        let source: Endpoint
        let transport: UpstreamQuery.Transport
        let receivedAt: UInt64
        /// Called once, with nothing when there is to be no answer.
        let reply: ([UInt8]?) -> Void

        /// The longest answer in bytes.
        var limit: Int { transport == .datagram ? query.datagramLimit : DNSMessage.longest }
    }

    unowned let proxy: PodProxy
    /// The pod's own resolv.conf; `nil` until the keeper has told about it.
    var resolver: ResolverConfiguration? {
        didSet { client = nil }
    }
    let logger = Logger(label: "dns")
    private let datagrams: SocketStock
    private var listeners: [DatagramListener] = []
    private var acceptors: [AcceptLoop] = []
    private var streams: [ObjectIdentifier: DNSStream] = [:]
    private var forwarded: [ObjectIdentifier: UpstreamQuery] = [:]
    private var waiting = 0
    private var waitingBySource: [Endpoint: Int] = [:]
    private var counters: [CounterKey: DNSCounters] = [:]
    private var client: (workload: Workload, value: DNSClient)?
    private var isDraining = false

    private struct CounterKey: Hashable {
        let type: String
        let transport: UpstreamQuery.Transport
    }

    var loop: EventLoop { proxy.loop }

    init(_ proxy: PodProxy, _ sockets: DNSSockets) throws(SystemError) {
        self.proxy = proxy
        datagrams = SocketStock(
            loop: proxy.loop, pod: proxy.pod, waits: proxy.services.metrics.stockWaits, dns: sockets)
        do throws(SystemError) {
            for socket in sockets.datagrams { listeners.append(try DatagramListener(self, socket)) }
            for listener in sockets.listeners {
                acceptors.append(
                    try AcceptLoop(loop: proxy.loop, listener: listener) { [unowned self] in accepted($0) })
            }
        } catch {
            stopListening()
            throw error
        }
    }

    /// Prepared sockets come from another stock from now on.
    func restock(from pod: HandedPod) { datagrams.restock(from: pod) }

    private func stopListening() {
        for listener in listeners { listener.close() }
        for acceptor in acceptors { acceptor.close() }
        listeners = []
        acceptors = []
    }

    // MARK: TCP

    private func accepted(_ connection: consuming Sockets.Accepted) {
        guard streams.count < Self.streamLimit, let source = connection.peer else { return }
        let stream = DNSStream(self, connection.takeDescriptor(), source)
        streams[ObjectIdentifier(stream)] = stream
        stream.start()
    }

    func ended(_ stream: DNSStream) {
        streams[ObjectIdentifier(stream)] = nil
        checkIdle()
    }

    // MARK: Queries

    /// Takes a query. Its reply comes from within this call or later; everything that waits has a limit in time.
    func take(_ asked: Asked) {
        guard let workload = proxy.localWorkload(in: proxy.services.store.snapshot()) else {
            guard begin(asked) else { return overload(asked) }
            return proxy.withLocalWorkload { [self] workload in
                end(asked)
                guard let workload else {
                    asked.reply(asked.query.failure(.serverFailure))
                    return log(asked, nil, proxy.unknownWorkloadText)
                }
                answer(asked, workload)
            }
        }
        answer(asked, workload)
    }

    private func answer(_ asked: Asked, _ workload: Workload) {
        count(asked, workload).requests.increment()
        guard let question = asked.query.question, asked.query.message.header.opcode == 0 else {
            return forward(asked, workload)
        }
        let mesh = proxy.services.store.snapshot()
        let resolver = Resolver(client: client(of: workload), mesh: mesh)
        switch resolver.resolve(question, using: &proxy.worker.random) {
        case .forward: forward(asked, workload)
        case .answer(let answer):
            let serial = answer.isEmpty ? UInt32(truncatingIfNeeded: proxy.services.store.version) : 0
            asked.reply(answer.reply(to: asked.query, limit: asked.limit, serial: serial))
            log(asked, workload, answer.isEmpty ? "no records" : "success", answer)
        }
    }

    private func client(of workload: Workload) -> DNSClient {
        if let client, client.workload === workload { return client.value }
        let search = resolver.flatMap { $0.searchDomains.isEmpty ? nil : $0.searchDomains }
        let value = proxy.dnsClient(of: workload, searchDomains: search)
        client = (workload, value)
        return value
    }

    // MARK: Forwarding

    private func forward(_ asked: Asked, _ workload: Workload) {
        guard begin(asked) else { return overload(asked) }
        let counters = count(asked, workload)
        let configuration = resolver ?? proxy.worker.files.configuration(now: loop.now)
        var settings = UpstreamSettings(configuration)
        settings.servers = NameServers.allowed(settings.servers, client: asked.source.address, workload)
        let start = loop.now
        counters.upstreamRequests.increment()
        // The query is kept by its place here until it is over, and this proxy outlives what it keeps.
        var key: ObjectIdentifier?
        let upstream = UpstreamQuery(
            asked.query, over: asked.transport, loop: loop, settings: settings, datagrams: datagrams,
            streams: proxy.stock
        ) { [unowned self] result in
            if let key { forwarded[key] = nil }
            end(asked)
            counters.upstreamDuration.observe(Double(loop.now - start) / 1e9)
            switch result {
            case .success(let reply):
                asked.reply(reply.bytes(for: asked.query, limit: asked.limit))
                log(asked, workload, "forwarded")
            case .failure(let failure):
                counters.upstreamFailures.increment()
                asked.reply(asked.query.failure(.serverFailure))
                log(asked, workload, "forwarding failed (\(failure))")
            }
            checkIdle()
        }
        key = ObjectIdentifier(upstream)
        forwarded[ObjectIdentifier(upstream)] = upstream
        upstream.start()
    }

    // MARK: Bounds

    private func begin(_ asked: Asked) -> Bool {
        let ofSource = waitingBySource[asked.source, default: 0]
        guard waiting < Self.waitingLimit, ofSource < Self.sourceLimit else { return false }
        waiting += 1
        waitingBySource[asked.source] = ofSource + 1
        return true
    }

    private func end(_ asked: Asked) {
        waiting -= 1
        let left = waitingBySource[asked.source, default: 1] - 1
        waitingBySource[asked.source] = left > 0 ? left : nil
    }

    private func overload(_ asked: Asked) {
        proxy.services.dnsMetrics.overloads.increment()
        asked.reply(asked.query.failure(.serverFailure))
        log(asked, nil, "too many queries of the pod are waiting")
    }

    // MARK: Accounts

    private func count(_ asked: Asked, _ workload: Workload) -> DNSCounters {
        if client?.workload !== workload { counters = [:] }
        let key = CounterKey(type: asked.query.question?.type.label ?? "UNKNOWN", transport: asked.transport)
        if let known = counters[key] { return known }
        let made = DNSCounters(
            proxy.services.dnsMetrics, type: key.type, transport: key.transport == .datagram ? "udp" : "tcp",
            workload: workload)
        counters[key] = made
        return made
    }

    private func log(_ asked: Asked, _ workload: Workload?, _ result: String, _ answer: Answer? = nil) {
        logger.debug(
            "dns",
            metadata: [
                "src.workload": "\(workload?.name ?? proxy.pod.name)", "src.namespace": "\(proxy.pod.namespace)",
                "query": "\(asked.query.question?.type.description ?? "-")",
                "domain": "\(asked.query.question?.name.description ?? "-")", "result": "\(result)",
                "endpoints": "\(answer?.records.filter { $0.data.type != .cname }.count ?? 0)",
            ])
    }

    // MARK: The end

    var isIdle: Bool { waiting == 0 && streams.isEmpty }

    private func checkIdle() { if isDraining, isIdle { proxy.dnsIsIdle() } }

    /// No new queries; those under way are answered.
    func drain() {
        isDraining = true
        stopListening()
        for stream in Array(streams.values) { stream.drain() }
    }

    /// Ends everything at once.
    func close() {
        stopListening()
        for query in forwarded.values { query.cancel() }
        forwarded = [:]
        for stream in Array(streams.values) { stream.close() }
        datagrams.close()
    }
}
