import Addressing
import Foundation
import Handover
import Identity
import LinuxNetwork
import Logging
import Mesh
import Netlink
import Observability
import Redirection
import TestSupport
import Testing

@testable import Ztunnel

struct Unmet: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Asks until it is so; between two questions it waits for nothing on a descriptor set that is empty.
func eventually(_ what: String, seconds: Int = 10, _ isSo: () throws -> Bool) throws {
    let deadline = MonotonicClock.now + UInt64(seconds) * 1_000_000_000
    while MonotonicClock.now < deadline {
        if try isSo() { return }
        poll(nil, 0, 3)
    }
    throw Unmet("not in \(seconds) s: \(what)")
}

/// The same where what is waited for is done by a task: the thread is left to it between two questions.
func untilTrue(_ what: String, seconds: Int = 20, _ isSo: () throws -> Bool) async throws {
    let deadline = MonotonicClock.now + UInt64(seconds) * 1_000_000_000
    while MonotonicClock.now < deadline {
        if try isSo() { return }
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                poll(nil, 0, 3)
                continuation.resume()
            }
        }
    }
    throw Unmet("not in \(seconds) s: \(what)")
}

/// A pod of the test: a namespace without a name, one interface on the test's bridge.
final class TestPod: Sendable {
    let name: String
    let namespace: NetworkNamespace
    let v4: IPAddress
    let v6: IPAddress
    let serviceAccount: String
    var uid: String { "uid-\(name)" }
    var identity: SPIFFEIdentity {
        SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: serviceAccount)
    }

    init(
        _ name: String, number: UInt8, serviceAccount: String? = nil, bridge: borrowing NetworkNamespace
    ) throws {
        self.name = name
        self.serviceAccount = serviceAccount ?? name
        namespace = try NetworkNamespace.make()
        v4 = IPAddress(10, 99, 0, number)
        v6 = try #require(IPAddress("fd00:99::\(number)"))
        let raw = namespace.raw
        try bridge.run { () throws(NetlinkError) in
            var links = try RouteSocket()
            try links.createPair("port\(number)", peer: "eth0", peerNamespace: raw)
            guard let port = try links.link(named: "port\(number)"), let master = try links.link(named: "br0") else {
                throw NetlinkError(operation: "find the port", code: ENODEV)
            }
            try links.setMaster(port.index, to: master.index)
            try links.setUp(port.index)
        }
        let (v4, v6) = (v4, v6)
        try namespace.run { () throws(NetlinkError) in
            var links = try RouteSocket()
            for name in ["lo", "eth0"] {
                guard let link = try links.link(named: name) else {
                    throw NetlinkError(operation: "find \(name)", code: ENODEV)
                }
                try links.setUp(link.index)
                guard name == "eth0" else { continue }
                try links.add(InterfaceAddress(v4, prefixLength: 24, interface: link.index))
                try links.add(InterfaceAddress(v6, prefixLength: 64, interface: link.index))
            }
        }
    }

    /// A listening socket of the application.
    func listen(port: UInt16, on address: IPAddress = .anyV6) throws -> FileDescriptor {
        FileDescriptor(
            owning: try namespace.run { () throws(SystemError) in
                let socket = try Sockets.tcp(dualStack: true)
                try Sockets.setReuseAddress(socket.raw)
                try Sockets.bind(socket.raw, to: Endpoint(address, port), dualStack: true)
                try Sockets.listen(socket.raw, backlog: 128)
                return socket.release()
            })
    }

    /// The tunnels that are open from here to others' port 15008.
    func tunnels(to other: TestPod? = nil) throws -> Int {
        try namespace.run { () throws(NetlinkError) in
            var diagnostics = try SocketDiagnostics()
            return try diagnostics.tcpSockets(in: [.established]).count {
                $0.remote.port == 15008 && (other == nil || $0.remote.address == other?.v4)
            }
        }
    }

    /// A connection of the application, begun.
    func connect(to endpoint: Endpoint) throws -> FileDescriptor {
        FileDescriptor(
            owning: try namespace.run { () throws(SystemError) in
                let socket = try Sockets.tcp(dualStack: !endpoint.address.isV4)
                _ = try Sockets.connect(socket.raw, to: endpoint, dualStack: !endpoint.address.isV4)
                return socket.release()
            })
    }
}

/// One node in the test's process: a bridge, the real keeper as a child, the data path in this process.
final class TestNode {
    let bridge: NetworkNamespace
    let store: MeshStore
    private(set) var metrics = MetricsRegistry()
    private(set) var readiness = Readiness()
    let directory: String
    private(set) var proxy: ZtunnelProxy?
    /// What captures the pods that are enrolled from now on.
    var backend: any RedirectionBackend = NftablesBackend()
    private let keeper: Peer
    private var agent: SeqpacketSocket?
    private var certificates: [WorkloadCertificate] = []
    private let authority: EmbeddedCA
    private var pods: [TestPod] = []

    init(settings: MeshSettings = MeshSettings()) throws {
        store = MeshStore(settings: settings)
        directory = FileManager.default.temporaryDirectory.path + "/tzt-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(
            atPath: directory + "/ca", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        authority = try EmbeddedCA(directory: directory + "/ca", trustDomain: "cluster.local", now: Date())
        bridge = try NetworkNamespace.make()
        try bridge.run { () throws(NetlinkError) in
            var links = try RouteSocket()
            try links.createBridge("br0")
            guard let link = try links.link(named: "br0") else {
                throw NetlinkError(operation: "find br0", code: ENODEV)
            }
            try links.setUp(link.index)
        }
        _ = FileManager.default.createFile(atPath: directory + "/keeper.log", contents: nil)
        let log = FileHandle(forWritingAtPath: directory + "/keeper.log") ?? FileHandle.nullDevice
        keeper = try Peer(
            [Places.products.appending(path: "apus-sockets").path, "--run-dir", directory, "--ztunnel-uid", "0"],
            errors: .file(log))
        try eventually("the keeper listens") {
            guard let socket = try? SeqpacketSocket.connect(path: directory + "/keeper.sock") else { return false }
            agent = consume socket
            return true
        }
        try agent?.send(KeeperRequest(id: 0, command: .hello(version: KeeperRequest.version)).encoded())
    }

    func pod(_ name: String, _ number: UInt8, serviceAccount: String? = nil) async throws -> TestPod {
        let pod = try TestPod(name, number: number, serviceAccount: serviceAccount, bridge: bridge)
        let request = try CertificateSigningRequestMaker.make(for: pod.identity)
        let chain = try authority.sign(csrPEM: request.csrPEM, for: pod.identity, validity: .seconds(3600), now: Date())
        certificates.append(try await chain.certificate(for: pod.identity, key: request.key, at: Date()))
        pods.append(pod)
        return pod
    }

    func certificate(of pod: TestPod) -> WorkloadCertificate? {
        certificates.first { $0.identity == pod.identity }
    }

    /// Someone with a certificate of an authority that nobody here trusts, who trusts us.
    func stranger(trustDomain: String, trusting own: WorkloadCertificate) async throws -> WorkloadCertificate {
        let folder = directory + "/stranger-\(trustDomain)"
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let other = try EmbeddedCA(directory: folder, trustDomain: trustDomain, now: Date())
        let identity = SPIFFEIdentity(trustDomain: trustDomain, namespace: "shop", serviceAccount: "outsider")
        let request = try CertificateSigningRequestMaker.make(for: identity)
        let chain = try other.sign(csrPEM: request.csrPEM, for: identity, validity: .seconds(3600), now: Date())
        let issued = try await chain.certificate(for: identity, key: request.key, at: Date())
        return WorkloadCertificate(
            identity: identity, chainDER: issued.chainDER, privateKeyDER: issued.privateKeyDER, rootsDER: own.rootsDER,
            notBefore: issued.notBefore, notAfter: issued.notAfter, serialNumber: issued.serialNumber)
    }

    /// Someone of another trust domain with a certificate of our own authority.
    func member(trustDomain: String) async throws -> WorkloadCertificate {
        let other = try EmbeddedCA(directory: directory + "/ca", trustDomain: trustDomain, now: Date())
        let identity = SPIFFEIdentity(trustDomain: trustDomain, namespace: "shop", serviceAccount: "outsider")
        let request = try CertificateSigningRequestMaker.make(for: identity)
        let chain = try other.sign(csrPEM: request.csrPEM, for: identity, validity: .seconds(3600), now: Date())
        return try await chain.certificate(for: identity, key: request.key, at: Date())
    }

    /// The pod's record, as a controller would send it.
    func workload(
        _ pod: TestPod, hbone: Bool = true, policies: [String] = [], services: [NamespacedHostname: PortMap] = [:],
        applicationTunnel: Workload.ApplicationTunnel? = nil, waypoint: GatewayAddress? = nil, network: String = "",
        networkGateway: GatewayAddress? = nil, addresses: [IPAddress]? = nil, hostname: String = ""
    ) -> Workload {
        Workload(
            uid: "Kubernetes//Pod/shop/\(pod.name)", name: pod.name, namespace: "shop",
            addresses: addresses ?? [pod.v4, pod.v6], hostname: hostname, network: network,
            tunnelProtocol: hbone ? .hbone : .none,
            serviceAccount: pod.serviceAccount, node: "n1", canonicalName: pod.name, kind: .pod,
            workloadName: pod.name, applicationTunnel: applicationTunnel, services: services,
            authorizationPolicies: policies, waypoint: waypoint, networkGateway: networkGateway)
    }

    func startProxy(
        demand: (any MeshDemand)? = nil, certificates source: (any WorkloadCertificateSource)? = nil,
        _ configure: (inout ZtunnelConfiguration) -> Void = { _ in }
    ) throws {
        var configuration = ZtunnelConfiguration()
        configuration.zdsSocket = directory + "/ztunnel/ztunnel.sock"
        configuration.nodeName = "n1"
        configuration.drainLimit = .milliseconds(200)
        configure(&configuration)
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        // Each ztunnel has its own.
        if proxy != nil { (metrics, readiness) = (MetricsRegistry(), Readiness()) }
        let proxy = try ZtunnelProxy(
            configuration, store: store, demand: demand,
            certificates: source ?? StaticCertificates(certificates), metrics: metrics,
            accessLog: try AccessLog(sink: .file(directory + "/access.log")), readiness: readiness, logger: logger)
        try proxy.start()
        self.proxy = proxy
    }

    /// Hands the pod's sockets over, or what is to be known of it anew.
    private func tell(_ pod: TestPod, _ settings: PodSettings, dns resolver: PodResolver? = nil) throws {
        let request = KeeperRequest(
            id: 1,
            command: .addPod(
                KeeperPod(
                    uid: pod.uid, name: pod.name, namespace: "shop", serviceAccount: pod.serviceAccount,
                    dualStack: true, dns: resolver != nil, resolver: resolver, netnsInode: pod.namespace.id.inode,
                    settings: settings)))
        guard agent != nil else { throw Unmet("no connection to the keeper") }
        try agent!.send(request.encoded(), descriptors: [pod.namespace.raw])
    }

    /// What a pod's annotations or its end would change.
    func update(_ pod: TestPod, _ settings: PodSettings) throws { try tell(pod, settings) }

    /// Takes a pod away, as when it is deleted.
    func remove(_ pod: TestPod) throws {
        try agent!.send(KeeperRequest(id: 2, command: .removePod(uid: pod.uid, drain: false)).encoded())
    }

    /// Hands the pod's sockets over and captures its traffic.
    /// - Parameter resolver: where its DNS is captured: whom to forward to.
    func enrol(_ pod: TestPod, settings: PodSettings = .none, dns resolver: PodResolver? = nil) throws {
        try tell(pod, settings, dns: resolver)
        try eventually("pod \(pod.name) is served") {
            guard let packet = try agent!.receive(limit: KeeperMessage.maximumLength) else { return false }
            switch try KeeperMessage(decoding: packet.bytes).content {
            case .reply(let reply):
                if let error = reply.error { throw Unmet(error) }
                return false
            case .handed, .handedAll: throw Unmet("the keeper hands over to a test")
            case .podStatus(let status): return status.uid == pod.uid && status.state == .served
            }
        }
        try backend.apply(RedirectionPlan(capturesDNS: resolver != nil), in: pod.namespace)
    }

    func log() throws -> String { try String(contentsOfFile: directory + "/access.log", encoding: .utf8) }
    /// What helps to understand a failure.
    var evidence: String {
        ["access.log", "keeper.log"].map { name in
            "\(name):\n" + ((try? String(contentsOfFile: directory + "/" + name, encoding: .utf8)) ?? "-")
        }.joined(separator: "\n")
    }

    func end() async {
        await proxy?.stop()
        keeper.end()
        // What is left in /tmp after a failure here is a nuisance, not an error of the test.
        try? FileManager.default.removeItem(atPath: directory)
    }
}

/// Blocking conversations of the test's applications, each step with a limit.
enum Talk {
    static func accept(_ listener: borrowing FileDescriptor) throws -> (fd: CInt, peer: Endpoint?) {
        try ready(listener.raw, POLLIN, "a connection")
        guard let accepted = try Sockets.accept(listener.raw) else { throw Unmet("no connection") }
        let peer = accepted.peer
        return (accepted.takeDescriptor().release(), peer)
    }

    static func send(_ fd: CInt, _ text: String) throws {
        try ready(fd, POLLOUT, "room to send")
        let bytes = Array(text.utf8)
        guard Glibc.send(fd, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count else { throw SystemError("send") }
    }

    /// Everything up to `count` bytes or the end of the stream.
    static func receive(_ fd: CInt, _ count: Int = .max) throws -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while bytes.count < count {
            try ready(fd, POLLIN, "data")
            let got = recv(fd, &chunk, min(chunk.count, count - bytes.count), 0)
            if got == 0 { break }
            guard got > 0 else { throw SystemError("receive") }
            bytes += chunk.prefix(got)
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func ready(_ fd: CInt, _ events: Int32, _ what: String) throws {
        var entry = pollfd(fd: fd, events: Int16(events), revents: 0)
        guard poll(&entry, 1, 10_000) == 1 else { throw Unmet("waited 10 s for \(what)") }
    }
}
