/// The keeper's side of ZDS with one ztunnel: what it has been told and has said.
///
/// One message is in flight at a time. Per pod at most one addition, one update, one configuration and one deletion wait,
/// so the queue is no longer than four times the number of pods this ztunnel knows of.
public struct ZDSServerSession: Hashable, Sendable {
    /// A message to ztunnel.
    public enum Item: Hashable, Sendable {
        case add(String)
        /// What is to be known of a pod beside its sockets.
        case update(String)
        case delete(String)
        case snapshotSent
        /// What belongs to a pod that has been added.
        case configure(String)
    }

    /// ztunnel's last word on a pod.
    public enum Standing: Hashable, Sendable {
        case served
        case refused(String)
    }

    /// What waits to be sent.
    public private(set) var queue: [Item]
    /// What has been sent and not answered.
    public private(set) var inFlight: Item?
    /// By uid; not there: no answer yet.
    public private(set) var standing: [String: Standing] = [:]
    /// Set once ztunnel has acknowledged the end of the snapshot.
    public private(set) var isReady = false
    /// Pods whose addition has been sent and whose deletion has not been acknowledged.
    private var told: Set<String> = []

    /// The end of the snapshot is yet to be queued, by ``endSnapshot()``.
    private var isOpen: Bool

    /// Begins with a snapshot of `pods`; those of `updated` are followed by what is to be known of them.
    /// - Parameter isWhole: Those are all pods there are. Else the snapshot ends with ``endSnapshot()``.
    public init(pods: some Sequence<String>, updated: Set<String> = [], isWhole: Bool = true) {
        queue = pods.flatMap { updated.contains($0) ? [.add($0), .update($0)] : [Item.add($0)] }
        if isWhole { queue.append(.snapshotSent) }
        isOpen = !isWhole
    }

    /// All pods are there that belong to the snapshot. Once is enough.
    public mutating func endSnapshot() {
        if isOpen { queue.append(.snapshotSent) }
        isOpen = false
    }

    /// Queues an addition, unless one waits.
    public mutating func add(_ uid: String) {
        if !queue.contains(.add(uid)) { queue.append(.add(uid)) }
    }

    /// Queues a pod's configuration, unless that waits or the pod has not been told of.
    public mutating func configure(_ uid: String) {
        if told.contains(uid), !queue.contains(.configure(uid)) { queue.append(.configure(uid)) }
    }

    /// Queues an update, unless one waits: what it says is looked up when it is sent.
    public mutating func update(_ uid: String) {
        guard told.contains(uid) || queue.contains(.add(uid)), !queue.contains(.update(uid)) else { return }
        queue.append(.update(uid))
    }

    /// - Returns: Whether an acknowledgement will come; not for a pod that this ztunnel has never heard of.
    /// Queues a deletion and forgets the pod's standing.
    public mutating func delete(_ uid: String) -> Bool {
        queue.removeAll { $0 == .add(uid) || $0 == .update(uid) || $0 == .configure(uid) }
        standing[uid] = nil
        guard told.contains(uid) else { return false }
        if inFlight != .delete(uid), !queue.contains(.delete(uid)) { queue.append(.delete(uid)) }
        return true
    }

    /// The next message to send, which is then in flight; `nil` when there is none or one is in flight.
    public mutating func next() -> Item? {
        guard inFlight == nil, !queue.isEmpty else { return nil }
        let item = queue.removeFirst()
        if case .add(let uid) = item { told.insert(uid) }
        inFlight = item
        return item
    }

    /// Takes an answer, with an empty error for yes.
    /// - Returns: What it answers; `nil` when nothing was asked.
    public mutating func answered(error: String) -> Item? {
        guard let item = inFlight else { return nil }
        inFlight = nil
        switch item {
        case .add(let uid):
            // A deletion may have been queued meanwhile: then this answer is about the past.
            if !queue.contains(.delete(uid)) { standing[uid] = error.isEmpty ? .served : .refused(error) }
        case .delete(let uid):
            told.remove(uid)
        case .snapshotSent:
            isReady = true
        case .configure, .update: break
        }
        return item
    }

    /// Whether there is something for ``retryRefused()`` to do.
    public var hasRefused: Bool { standing.values.contains { $0 != .served } }

    /// Asks again about the pods that were refused; they stay refused until the answer.
    public mutating func retryRefused() {
        for (uid, word) in standing where word != .served { add(uid) }
    }

    /// Another ztunnel has taken over: this one hears of deletions and of changes to what it has.
    public mutating func retire() {
        queue.removeAll {
            switch $0 {
            case .add, .configure: true
            case .update(let uid): !told.contains(uid)
            case .delete, .snapshotSent: false
            }
        }
    }
}
