import Handover
import ObjectSource

/// A pod whose namespace the agent holds. Touched by the agent's actor alone.
final class ManagedPod {
    var record: PodRecord
    let namespace: SharedNamespace
    /// What the keeper last said; `nil` when it has not, or is away.
    var keeperState: KeeperPodStatus.State?
    /// What its annotations and its end ask of ztunnel, as last read.
    var settings = PodSettings.none
    /// When the pod stopped being served, for the grace that a restart of ztunnel gets.
    var unservedSince: ContinuousClock.Instant?
    /// The last reading of the kernel agreed with the plan, or was made to.
    var isProven = false
    /// What stands in the pod's status; `nil` when it is not known.
    var reported: Report?
    /// Counts the changes of direction, so that what belongs to an older one stops.
    var generation = 0
    var drain: Task<Void, Never>?
    var reconciliation: Task<Void, Never>?
    var needsReconciliation = false
    /// Whom the pod's DNS is forwarded to, as far as it is known.
    var resolver: PodResolver?
    /// ``resolver`` is what the pod's processes see.
    var hasOwnResolver = false
    var resolverWatch: Task<Void, Never>?

    enum Report: Equatable { case absent, pending, enabled }

    init(_ record: PodRecord, _ namespace: SharedNamespace) {
        self.record = record
        self.namespace = namespace
    }

    var name: ObjectName { ObjectName(namespace: record.podNamespace, name: record.podName) }
    var reference: PodReference { PodReference(name: name, uid: record.objectUID) }
    /// The keeper holds the pod's sockets, or should.
    var isInMesh: Bool { record.phase == .capturing || record.phase == .leaving }

    func turn(to phase: PodRecord.Phase) {
        record.phase = phase
        generation += 1
        drain?.cancel()
        drain = nil
        resolverWatch?.cancel()
        resolverWatch = nil
    }
}

/// A pod as the agent sees it, for operators and tests.
public struct AgentPod: Hashable, Sendable {
    public enum Phase: String, Hashable, Sendable { case attached, capturing, leaving }

    public let containerID: String
    public let name: ObjectName
    public let uid: String
    public let phase: Phase
    /// Whether the kernel was last found to hold what it should.
    public let isProven: Bool
    public let keeperState: KeeperPodStatus.State?
    /// The annotation's value in the pod's status; `nil` for none.
    public let reported: String?
}
