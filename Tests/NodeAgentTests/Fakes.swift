import Addressing
import Glibc
import Handover
import LinuxNetwork
import NodeAgent
import Redirection
import Synchronization

/// What happened, in order.
final class Journal: Sendable {
    private let lines = Mutex<[String]>([])

    func note(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
    func clear() { lines.withLock { $0 = [] } }
}

/// A keeper in memory.
final class FakeKeeper: PodKeeper {
    private struct State {
        var pods: [String: KeeperPodStatus] = [:]
        var settings: [String: PodSettings] = [:]
        var isAway = false
        var serves = true
        var refusal: String?
    }
    private let state = Mutex(State())
    private let journal: Journal
    private let stream: Mutex<AsyncStream<KeeperEvent>.Continuation?> = Mutex(nil)

    init(_ journal: Journal) { self.journal = journal }

    var pods: [String: KeeperPodStatus] { state.withLock { $0.pods } }
    /// What it was last told of each pod.
    var settings: [String: PodSettings] { state.withLock { $0.settings } }

    func events() -> AsyncStream<KeeperEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: KeeperEvent.self)
        self.stream.withLock { $0 = continuation }
        if !state.withLock({ $0.isAway }) { continuation.yield(.connected) }
        return stream
    }

    private func tell(_ event: KeeperEvent) { stream.withLock { _ = $0?.yield(event) } }

    func setAway(_ away: Bool, losingPods: Bool = false) {
        state.withLock {
            $0.isAway = away
            if losingPods { $0.pods = [:] }
        }
        tell(away ? .disconnected("a test") : .connected)
    }

    func setRefusal(_ text: String?) { state.withLock { $0.refusal = text } }

    /// Whether a ztunnel is there.
    func setServes(_ serves: Bool, state new: KeeperPodStatus.State = .waiting) {
        let changed = state.withLock { state in
            state.serves = serves
            for uid in state.pods.keys { state.pods[uid]?.state = serves ? .served : new }
            return Array(state.pods.values)
        }
        for status in changed { tell(.podStatus(status)) }
    }

    func lose(_ uid: String) { state.withLock { $0.pods[uid] = nil } }

    func add(_ pod: KeeperPod, in namespace: SharedNamespace) async throws(AgentError) -> KeeperPodStatus {
        let status = KeeperPodStatus(
            uid: pod.uid, netnsInode: namespace.id.inode, name: pod.name, namespace: pod.namespace,
            serviceAccount: pod.serviceAccount, state: state.withLock { $0.serves } ? .served : .waiting)
        try reach()
        if let refusal = state.withLock({ $0.refusal }) {
            throw AgentError(.tryAgain, "the keeper refused", cause: refusal)
        }
        journal.note("keeper add \(pod.uid)")
        state.withLock {
            $0.pods[pod.uid] = status
            $0.settings[pod.uid] = pod.settings
        }
        return status
    }

    func remove(uid: String, drain: Bool) async throws(AgentError) {
        try reach()
        journal.note("keeper remove \(uid)\(drain ? " drain" : "")")
        state.withLock { $0.pods[uid] = nil }
    }

    func named() async throws(AgentError) { try reach() }

    func list() async throws(AgentError) -> [KeeperPodStatus] {
        try reach()
        return state.withLock { Array($0.pods.values) }
    }

    private func reach() throws(AgentError) {
        if state.withLock({ $0.isAway }) { throw AgentError(.tryAgain, "the keeper is not there") }
    }
}

/// The real back end with an eye on it, and with failures and connections that a test makes up.
final class WatchedBackend: RedirectionBackend {
    private struct State {
        var failure: RedirectionError?
        var captured: Int?
        var missingListeners: [UInt16] = []
        var verifications: [NamespaceID: Int] = [:]
    }
    private let state = Mutex(State())
    private let journal: Journal
    private let real: any RedirectionBackend

    init(_ journal: Journal, _ real: any RedirectionBackend) {
        self.journal = journal
        self.real = real
    }

    var sealProblem: RedirectionError? { real.sealProblem }

    func fail(_ failure: RedirectionError?) { state.withLock { $0.failure = failure } }
    /// How often each namespace was read back.
    var verifications: [NamespaceID: Int] { state.withLock { $0.verifications } }
    func setMissingListeners(_ ports: [UInt16]) { state.withLock { $0.missingListeners = ports } }
    func setCaptured(_ count: Int?) { state.withLock { $0.captured = count } }

    func prepare(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        try real.prepare(plan, in: namespace)
    }

    func apply(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        if let failure = state.withLock({ $0.failure }) { throw failure }
        journal.note("apply")
        try real.apply(plan, in: namespace)
    }

    func leave(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {
        journal.note("leave")
        try real.leave(plan, in: namespace)
    }

    func remove(in namespace: borrowing NetworkNamespace) throws {
        journal.note("remove")
        try real.remove(in: namespace)
    }

    func verify(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, in namespace: borrowing NetworkNamespace
    ) throws -> [Drift] {
        let id = namespace.id
        state.withLock { $0.verifications[id, default: 0] += 1 }
        return try real.verify(plan, phase, in: namespace)
    }

    /// The keeper of these tests makes no sockets.
    func missingListeners(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws -> [Drift] {
        state.withLock { $0.missingListeners.map { .listenerMissing($0) } }
    }

    func block(in namespace: borrowing NetworkNamespace) throws {
        journal.note("block")
        try NftablesBackend().block(in: namespace)
    }

    func unblock(in namespace: borrowing NetworkNamespace) throws { try real.unblock(in: namespace) }

    func capturedConnections(in namespace: borrowing NetworkNamespace) throws -> Int {
        try state.withLock { $0.captured } ?? real.capturedConnections(in: namespace)
    }
}

/// A folder that goes with the value.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/tredir.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        if unlink(path) == 0 || errno == ENOENT { return }
        guard let directory = opendir(path) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { remove("\(path)/\(name)") }
        }
        closedir(directory)
        rmdir(path)
    }
}
