import DNS
import Handover
import LinuxNetwork
import Mesh
import Synchronization
import TLSEngine

/// The workers, as the rest of the process sees them: everything said to them is said to all.
final class WorkerPool: ServedPods {
    private let threads: [EventLoopThread<Worker>]
    private let gauges: PodGauges
    private let limiters: ConnectionLimiters
    private let silenceLimits: SilenceLimits
    /// By uid.
    private let served = Mutex<[String: HandedPod]>([:])
    private let onKeeper: @Sendable (Bool) -> Void

    init(
        count: Int, services: ZtunnelServices, gauges: PodGauges, onKeeper: @escaping @Sendable (Bool) -> Void
    ) throws {
        var started: [EventLoopThread<Worker>] = []
        do {
            for index in 0..<count {
                started.append(
                    try EventLoopThread(name: "ztunnel-\(index)") { Worker(loop: $0, services: services) })
            }
        } catch {
            for thread in started { thread.stop() }
            throw error
        }
        threads = started
        limiters = services.limiters
        silenceLimits = services.configuration.silenceLimits
        self.gauges = gauges
        self.onKeeper = onKeeper
    }

    // MARK: Pods

    func serve(_ pod: HandedPod) throws {
        // The keeper has said it again, or another keeper that took over: tunnels, and the sockets at hand, stay.
        if served.withLock({ $0[pod.uid]?.sockets == pod.sockets }) { return }
        do {
            try hand(pod)
        } catch {
            gauges.set(
                served: served.withLock {
                    $0[pod.uid] = nil
                    return $0.count
                })
            throw error
        }
        let (isNew, count) = served.withLock {
            ($0.updateValue(pod, forKey: pod.uid) == nil, $0.count)
        }
        if isNew { gauges.started() }
        gauges.set(served: count)
    }

    /// Serves ztunnel's own pod, which nobody else knows of and which counts as none.
    func serveOwn(_ pod: HandedPod) throws { try hand(pod) }

    private func hand(_ pod: HandedPod) throws {
        pod.apply(silenceLimits)
        // Each worker answers before the keeper is told yes: from then on connections are accepted by all.
        let answers = Answers(threads.count)
        for (index, thread) in threads.enumerated() {
            let accepted = thread.submit { worker in
                do throws(SystemError) {
                    try worker.serve(pod)
                    answers.put(index, nil)
                } catch {
                    answers.put(index, error)
                }
            }
            if !accepted { answers.put(index, SystemError("the worker has ended", code: 0)) }
        }
        if let error = answers.wait() {
            for thread in threads { thread.submit { $0.stop(uid: pod.uid) } }
            throw error
        }
    }

    func update(uid: String, _ settings: PodSettings) {
        limiters.of(uid).set(connections: settings.connectionLimit, perSecond: settings.connectionRate)
        if settings.isTerminating { for thread in threads { thread.submit { $0.windDown(uid: uid) } } }
    }

    func stop(uid: String) {
        for thread in threads { thread.submit { $0.stop(uid: uid) } }
        limiters.forget(uid)
        let (was, count) = served.withLock { ($0.removeValue(forKey: uid) != nil, $0.count) }
        if was { gauges.stopped() }
        gauges.set(served: count)
    }

    func configure(uid: String, resolver: PodResolver) {
        let configuration = ResolverConfiguration(resolver)
        for thread in threads { thread.submit { $0.configure(uid: uid, resolver: configuration) } }
    }

    func stopAll(except named: Set<String>) {
        let gone = served.withLock { Set($0.keys).subtracting(named) }
        for uid in gone { letGo(uid: uid) }
    }

    /// For a pod that the control side does not know (any more), as one does not that was killed and started again: its
    /// ports are free when this returns, and its connections live on.
    private func letGo(uid: String) {
        let (pod, count) = served.withLock { ($0.removeValue(forKey: uid), $0.count) }
        guard let pod else { return }
        let answers = Answers(threads.count)
        for (index, thread) in threads.enumerated() {
            let accepted = thread.submit { worker in
                worker.retire(uid: uid)
                answers.put(index, nil)
            }
            if !accepted { answers.put(index, nil) }
        }
        // A worker that does not answer in time finds its listener shut, which is what it is to find.
        _ = answers.wait()
        pod.shutDownListeners()
        limiters.forget(uid)
        gauges.stopped()
        gauges.set(served: count)
    }

    var count: Int { served.withLock { $0.count } }

    func network(of uid: String) -> NamespaceID? { served.withLock { $0[uid]?.network } }

    func controlReady(_ ready: Bool) { onKeeper(ready) }

    func pendingChanged(_ count: Int) { gauges.set(pending: count) }

    // MARK: The mesh

    func meshChanged(_ change: MeshChange) {
        for thread in threads { thread.submit { $0.meshChanged(change) } }
    }

    /// Ends the tunnels whose peers' certificates are revoked now.
    func revoked(_ keys: Set<CertificateKey>) {
        for thread in threads { thread.submit { $0.chains.revoked(keys) } }
    }

    /// Lets go what the workers keep of peers they have not spoken with for long.
    func trim() {
        for thread in threads { thread.submit { $0.trim() } }
    }

    /// The workers that do not answer in time, by name: for readiness, which is to say that bytes are moved.
    func stuck(after limit: Duration) async -> [String] {
        await withTaskGroup(of: (Int, Bool).self) { group in
            for (index, thread) in threads.enumerated() {
                group.addTask { (index, await Self.answers(thread, within: limit)) }
            }
            return await group.reduce(into: []) { if !$1.1 { $0.append("worker ztunnel-\($1.0)") } }.sorted()
        }
    }

    private static func answers(_ thread: EventLoopThread<Worker>, within limit: Duration) async -> Bool {
        let (answers, continuation) = AsyncStream.makeStream(of: Bool.self, bufferingPolicy: .bufferingOldest(1))
        if !thread.submit({ _ in continuation.yield(true) }) { return false }
        let timer = Task {
            // Cancelled when the worker was faster; either way the stream ends.
            try? await Task.sleep(for: limit)
            continuation.finish()
        }
        defer { timer.cancel() }
        for await answer in answers { return answer }
        return false
    }

    func connections() async -> [String: PodProxy.Listing] {
        var all: [String: PodProxy.Listing] = [:]
        for thread in threads {
            let part = await thread.perform { $0.connections() } ?? [:]
            all.merge(part) { first, second in
                var both = first
                both.entries += second.entries
                return both
            }
        }
        return all
    }

    /// The longest that a round of any worker has taken since this was last asked, in seconds.
    func takeLongestRound() -> Double { Double(threads.map { $0.takeLongestRound() }.max() ?? 0) / 1e9 }

    // MARK: The end

    /// Stops accepting, says goodbye on every tunnel, and waits for open connections; those left after `limit` are cut.
    func drain(limit: Duration) async {
        await withTaskGroup(of: Void.self) { group in
            for thread in threads {
                group.addTask {
                    await withTaskGroup(of: Void.self) { race in
                        race.addTask { await Self.drain(thread) }
                        // Cancelled when the drain wins; being cut short is the point of it.
                        race.addTask { try? await Task.sleep(for: limit) }
                        _ = await race.next()
                        thread.submit { $0.stopAll() }
                        race.cancelAll()
                    }
                }
            }
        }
        for thread in threads { thread.stop() }
    }

    private static func drain(_ thread: EventLoopThread<Worker>) async {
        await withCheckedContinuation { continuation in
            let accepted = thread.submit { worker in worker.drain { continuation.resume() } }
            if !accepted { continuation.resume() }
        }
    }
}

/// One answer from each worker, waited for by a thread that has nothing else to do.
private final class Answers: Sendable {
    private struct State {
        var left: Int
        var failure: SystemError?
        var seen: Set<Int> = []
    }
    private let state: Mutex<State>
    private let done = ThreadSignal()

    init(_ count: Int) { state = Mutex(State(left: count)) }

    func put(_ index: Int, _ failure: SystemError?) {
        let complete = state.withLock { state in
            guard state.seen.insert(index).inserted else { return false }
            state.left -= 1
            if state.failure == nil { state.failure = failure }
            return state.left == 0
        }
        if complete { done.signal() }
    }

    func wait() -> SystemError? {
        guard done.wait(seconds: 5) else {
            return SystemError("a worker did not take the pod over within 5 s", code: 0)
        }
        return state.withLock { $0.failure }
    }
}
