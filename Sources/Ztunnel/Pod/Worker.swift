import DNS
import Foundation
import LinuxNetwork
import Logging
import Mesh
import Observability

/// What all workers share. Safe to use from any thread.
struct ZtunnelServices: Sendable {
    let configuration: ZtunnelConfiguration
    let store: MeshStore
    let contexts: CertificateContexts
    let metrics: ConnectionMetrics
    let dnsMetrics: DNSMetrics
    let accessLog: AccessLog
    let logger: Logger
}

/// One thread of the data path with the pods' connections that it took. Nothing in it is shared with other threads.
final class Worker {
    let loop: EventLoop
    let services: ZtunnelServices
    let counters: CounterCache
    var random = FastRandom()
    /// Addresses of hosts that workloads name instead of having addresses.
    private(set) lazy var hosts = HostResolver(loop: loop, ipv6: services.configuration.ipv6Enabled, files: files)
    /// ztunnel's own resolv.conf and hosts file.
    private(set) lazy var files = HostFiles()

    private var pods: [String: PodProxy] = [:]
    private var draining: [ObjectIdentifier: PodProxy] = [:]
    private var awaited: [UInt64: (Result<CertificateContexts.Pair, any Error>) -> Void] = [:]
    private var nextAwaited: UInt64 = 0
    /// How the answers of other threads come back here.
    private let remote: EventLoopRemote
    private let box: WorkerBox

    init(loop: EventLoop, services: ZtunnelServices) {
        self.loop = loop
        self.services = services
        counters = CounterCache(services.metrics)
        remote = loop.remote
        box = WorkerBox()
        box.worker = self
    }

    // MARK: Pods

    /// Serves a pod; one that is served already by the same sockets goes on, by others is replaced.
    func serve(_ pod: HandedPod) throws(SystemError) {
        let proxy = try PodProxy(worker: self, pod: pod)
        proxy.dns?.resolver = pods[pod.uid]?.dns?.resolver
        retire(uid: pod.uid)
        pods[pod.uid] = proxy
    }

    /// Stops accepting for a pod and ends its connections at once.
    func stop(uid: String) {
        pods.removeValue(forKey: uid)?.stop()
    }

    /// Whom the pod's DNS is forwarded to from now on.
    func configure(uid: String, resolver: ResolverConfiguration) {
        pods[uid]?.dns?.resolver = resolver
    }

    func stopAll(except named: Set<String>) {
        for uid in pods.keys where !named.contains(uid) { stop(uid: uid) }
    }

    /// The keeper handed the pod's sockets over again, after a break: new connections come through the new descriptors,
    /// open ones go on through the old.
    private func retire(uid: String) {
        guard let old = pods.removeValue(forKey: uid) else { return }
        draining[ObjectIdentifier(old)] = old
        old.drain { [weak self, weak old] in
            if let old { self?.draining[ObjectIdentifier(old)] = nil }
        }
    }

    /// No new connections; tunnels say goodbye. `done` is called when the last connection is over.
    func drain(done: @escaping () -> Void) {
        let all = Array(pods.values) + Array(draining.values)
        var left = all.count
        guard left > 0 else { return done() }
        for proxy in all {
            proxy.drain {
                left -= 1
                if left == 0 { done() }
            }
        }
    }

    func stopAll() {
        for proxy in Array(pods.values) + Array(draining.values) { proxy.stop() }
        pods = [:]
        draining = [:]
    }

    /// Lets connections look again at what they depend on.
    func meshChanged(_ change: MeshChange) {
        let state = services.store.snapshot()
        for proxy in pods.values { proxy.meshChanged(change, state) }
        for proxy in draining.values { proxy.meshChanged(change, state) }
    }

    /// What the pods' connections are at the moment, for the config dump.
    func connections() -> [String: PodProxy.Listing] { pods.mapValues(\.listing) }

    // MARK: Certificates

    /// Calls back with the TLS contexts of an identity: from within this call when they are at hand.
    func contexts(
        for identity: SPIFFEIdentity, _ body: @escaping (Result<CertificateContexts.Pair, any Error>) -> Void
    ) {
        if let ready = services.contexts.ready(identity) { return body(.success(ready)) }
        nextAwaited += 1
        let token = nextAwaited
        awaited[token] = body
        Task { [contexts = services.contexts, remote, box] in
            let result: Result<CertificateContexts.Pair, any Error>
            do {
                result = .success(try await contexts.pair(for: identity))
            } catch {
                result = .failure(error)
            }
            remote.submit { box.worker?.resolve(token, result) }
        }
    }

    private func resolve(_ token: UInt64, _ result: Result<CertificateContexts.Pair, any Error>) {
        awaited.removeValue(forKey: token)?(result)
    }
}

/// The way from a job on the worker's thread to the worker. Unchecked, because it is read only by jobs of the worker's
/// own loop.
private final class WorkerBox: @unchecked Sendable {
    weak var worker: Worker?
}
