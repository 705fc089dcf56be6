import ObjectSource
import Synchronization

/// Objects that a test sets.
final class FakeSource: ObjectSource {
    private struct State {
        var snapshot = ObjectSnapshot()
        var readers: [AsyncStream<ObjectSnapshot>.Continuation] = []
        var health = ObjectSourceHealth()
    }
    private let state = Mutex(State())

    func snapshot() -> ObjectSnapshot { state.withLock { $0.snapshot } }

    func snapshots() -> AsyncStream<ObjectSnapshot> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: ObjectSnapshot.self, bufferingPolicy: .bufferingNewest(1))
        state.withLock {
            $0.readers.append(continuation)
            continuation.yield($0.snapshot)
        }
        return stream
    }

    var health: ObjectSourceHealth { state.withLock { $0.health } }
    func setHealth(_ health: ObjectSourceHealth) { state.withLock { $0.health = health } }

    var readers: Int { state.withLock { $0.readers.count } }

    func change(_ body: (inout ObjectSnapshot) -> Void) {
        state.withLock { state in
            body(&state.snapshot)
            state.snapshot.version += 1
            for reader in state.readers { reader.yield(state.snapshot) }
        }
    }

    func setNamespace(_ name: String, ambient: Bool) {
        change {
            $0.namespaces[name] = Namespace(name, labels: ambient ? ["istio.io/dataplane-mode": "ambient"] : [:])
        }
    }

    func setPod(
        _ name: String, _ namespace: String = "shop", uid: String = "", annotations: [String: String] = [:],
        phase: PodStatus.Phase = .running
    ) {
        change {
            $0.insert(
                .pod(
                    Pod(
                        metadata: ObjectMeta(name: name, namespace: namespace, uid: uid, annotations: annotations),
                        spec: PodSpec(serviceAccountName: "cashier"), status: .init(phase: phase))))
        }
    }
}

/// Keeps what the agent reports, and writes it back into the objects as a status folder would.
final class FakeAnnotator: PodAnnotator, PodEventRecorder {
    private let source: FakeSource
    private let journal: Journal
    private let values = Mutex<[ObjectName: String]>([:])
    private let all = Mutex<[ObjectName: [String: String]]>([:])
    private let recorded = Mutex<[PodEvent]>([])
    private let isAway = Mutex(false)
    private struct Held {
        var names: Set<ObjectName> = []
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let held = Mutex(Held())
    var events: [PodEvent] { recorded.withLock { $0 } }

    func record(_ event: PodEvent) async throws(ObjectSourceError) { recorded.withLock { $0.append(event) } }

    init(_ source: FakeSource, _ journal: Journal) {
        self.source = source
        self.journal = journal
    }

    func annotate(_ pod: PodReference, with annotations: [String: String]) async throws(ObjectSourceError) {
        if isAway.withLock({ $0 }) { throw ObjectSourceError(.unwritable, "the API server is away") }
        await wait(pod.name)
        let value = annotations[MeshLabel.redirection]
        values.withLock { $0[pod.name] = value }
        all.withLock { $0[pod.name] = annotations }
        journal.note("status \(value ?? "none")")
        source.change { snapshot in
            snapshot.pods[pod.name]?.metadata.annotations[MeshLabel.redirection] = value
        }
    }

    func setAway(_ away: Bool) { isAway.withLock { $0 = away } }

    /// What is written of a pod hangs until ``letGo()``.
    func hold(_ name: String) { held.withLock { _ = $0.names.insert(ObjectName(namespace: "shop", name: name)) } }

    func letGo() {
        let waiting = held.withLock { held in
            defer { held = Held() }
            return held.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    private func wait(_ name: ObjectName) async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isFree = held.withLock { held in
                guard held.names.contains(name) else { return true }
                held.waiting.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
    }

    func problem(of name: String) -> String? { annotation(MeshLabel.redirectionProblem, of: name) }
    func spared(of name: String) -> String? { annotation(MeshLabel.sparedConnections, of: name) }

    private func annotation(_ annotation: String, of name: String) -> String? {
        all.withLock { $0[ObjectName(namespace: "shop", name: name)]?[annotation] }
    }

    subscript(name: String) -> String? {
        values.withLock { $0[ObjectName(namespace: "shop", name: name)] }
    }
}
