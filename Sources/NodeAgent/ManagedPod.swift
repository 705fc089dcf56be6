import Handover
import LinuxNetwork
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
    var isProven = false {
        didSet {
            if isProven {
                wasProven = true
                problem = nil
            }
        }
    }
    /// The kernel is being read back, or repaired: how it ends is not known yet.
    var isUnderProof = false
    /// It was proven at some time since it was enrolled: what is not now is no beginning, but damage.
    var wasProven = false
    /// What keeps capture from being whole, for its owner.
    var problem: String?
    /// Kept off the network until capture is proven; `nil` when that is not known, after a start of the agent.
    var isBlocked: Bool?
    /// A report that failed is due again.
    var reportAgain: Task<Void, Never>?
    /// Its status is to be looked at, and written if it is another; one such task waits for its turn.
    var reportDue: Task<Void, Never>?
    var reportBackoff = ManagedPod.freshReportBackoff
    static var freshReportBackoff: Backoff { Backoff(shortest: .seconds(1), longest: .seconds(30)) }
    /// What stands in the pod's status; `nil` when it is not known.
    var reported: Report?
    /// Counts the changes of direction, so that what belongs to an older one stops.
    var generation = 0
    var drain: Task<Void, Never>?
    /// Leaving, and new connections are captured no more.
    var hasStoppedCapturing = false
    var reconciliation: Task<Void, Never>?
    var needsReconciliation = false
    /// Something has changed in the namespace: a look at it is due.
    var suspicion: Task<Void, Never>?
    /// Connections from before its enrolment.
    var spared = SparedList()
    var sparedWatch: Task<Void, Never>?
    /// Whom the pod's DNS is forwarded to, as far as it is known.
    var resolver: PodResolver?
    /// ``resolver`` is what the pod's processes see.
    var hasOwnResolver = false
    var resolverWatch: Task<Void, Never>?

    /// What the status is to say. A pod whose capture is damaged is pending to the others of the mesh.
    struct Report: Equatable {
        enum State: Equatable {
            case absent
            case pending(problem: String?)
            case degraded(problem: String?)
            case enabled
        }
        var state: State
        /// Connections that go past the mesh.
        var spared: String?

        /// The value of the annotation that others read.
        var annotation: String? {
            switch state {
            case .absent: nil
            case .pending, .degraded: MeshLabel.redirectionPending
            case .enabled: MeshLabel.redirectionEnabled
            }
        }
    }

    init(_ record: PodRecord, _ namespace: SharedNamespace) {
        self.record = record
        self.namespace = namespace
    }

    var name: ObjectName { ObjectName(namespace: record.podNamespace, name: record.podName) }
    var reference: PodReference { PodReference(name: name, uid: record.objectUID) }
    /// The keeper holds the pod's sockets, or should.
    var isInMesh: Bool { record.phase == .capturing || record.phase == .leaving }
    /// There is something in its namespace that can be held against what should be.
    var isVerifiable: Bool { record.phase == .capturing || record.phase == .leaving && hasStoppedCapturing }

    func turn(to phase: PodRecord.Phase) {
        record.phase = phase
        generation += 1
        wasProven = false
        hasStoppedCapturing = false
        problem = nil
        drain?.cancel()
        drain = nil
        resolverWatch?.cancel()
        resolverWatch = nil
        sparedWatch?.cancel()
        sparedWatch = nil
        spared = SparedList()
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
    /// What keeps its capture from being whole.
    public let problem: String?
    /// It has no network until its capture is proven.
    public let isBlocked: Bool
}
