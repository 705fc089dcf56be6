import Handover
import LinuxNetwork
import ObjectSource
import Synchronization

@testable import NodeAgent

/// Counts the steps of an agent (work on kernel and disk, calls to the keeper, reports) and ends its life before one of
/// them: from then on nothing it does has any effect, as if it had been killed.
final class AgentLife: Sendable {
    struct Over: Error {}

    private struct State {
        var steps = 0
        var last: Int?
    }
    private let state = Mutex(State())

    func step() throws(Over) {
        let lives = state.withLock { state in
            if let last = state.last, state.steps >= last { return false }
            state.steps += 1
            return true
        }
        guard lives else { throw Over() }
    }

    var steps: Int { state.withLock { $0.steps } }

    /// Lets so many steps from now happen, and no more.
    func end(after count: Int) { state.withLock { $0.last = $0.steps + count } }

    var isOver: Bool { state.withLock { state in state.last.map { state.steps >= $0 } ?? false } }
}

/// A keeper that hears nothing any more once the agent is dead.
final class MortalKeeper: PodKeeper {
    private let keeper: FakeKeeper
    private let life: AgentLife

    init(_ keeper: FakeKeeper, _ life: AgentLife) {
        self.keeper = keeper
        self.life = life
    }

    func events() -> AsyncStream<KeeperEvent> { keeper.events() }

    func add(_ pod: KeeperPod, in namespace: SharedNamespace) async throws(AgentError) -> KeeperPodStatus {
        try live()
        return try await keeper.add(pod, in: namespace)
    }

    func remove(uid: String, drain: Bool) async throws(AgentError) {
        try live()
        try await keeper.remove(uid: uid, drain: drain)
    }

    func named() async throws(AgentError) {
        try live()
        try await keeper.named()
    }

    func list() async throws(AgentError) -> [KeeperPodStatus] {
        try live()
        return try await keeper.list()
    }

    private func live() throws(AgentError) {
        do { try life.step() } catch { throw AgentError(.tryAgain, "the agent is dead") }
    }
}

final class MortalAnnotator: PodAnnotator {
    private let annotator: FakeAnnotator
    private let life: AgentLife

    init(_ annotator: FakeAnnotator, _ life: AgentLife) {
        self.annotator = annotator
        self.life = life
    }

    func annotate(_ pod: PodReference, with annotations: [String: String]) async throws(ObjectSourceError) {
        do { try life.step() } catch { return }
        try await annotator.annotate(pod, with: annotations)
    }
}
