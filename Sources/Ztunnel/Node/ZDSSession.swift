/// The rules of one ZDS connection, apart from its I/O: which pods the keeper has named so far, and what is a breach of
/// the protocol.
struct ZDSSession {
    enum Step: Equatable {
        case serve(uid: String)
        case stop(uid: String)
        case update(uid: String)
        /// Stop every pod that is not among these.
        case reconcile(named: Set<String>)
        case configure(uid: String)
        case nothing
    }

    enum Breach: Error, Equatable, CustomStringConvertible {
        case keepAfterSnapshot(String)
        case secondSnapshot
        case noName

        var description: String {
            switch self {
            case .keepAfterSnapshot(let uid): "keep for pod \(uid) after the snapshot"
            case .secondSnapshot: "a second end of snapshot"
            case .noName: "a message without a pod uid"
            }
        }
    }

    private var named: Set<String> = []
    private(set) var hasSnapshot = false

    mutating func add(_ uid: String) throws(Breach) -> Step {
        guard !uid.isEmpty else { throw .noName }
        if !hasSnapshot { named.insert(uid) }
        return .serve(uid: uid)
    }

    mutating func keep(_ uid: String) throws(Breach) -> Step {
        guard !uid.isEmpty else { throw .noName }
        guard !hasSnapshot else { throw .keepAfterSnapshot(uid) }
        named.insert(uid)
        return .nothing
    }

    mutating func delete(_ uid: String) throws(Breach) -> Step {
        guard !uid.isEmpty else { throw .noName }
        // Before the snapshot is complete a deletion only takes the name back; the reconciliation stops the pod.
        guard hasSnapshot else {
            named.remove(uid)
            return .nothing
        }
        return .stop(uid: uid)
    }

    /// Ours: what belongs to a pod that has been added.
    func configure(_ uid: String) throws(Breach) -> Step {
        guard !uid.isEmpty else { throw .noName }
        return .configure(uid: uid)
    }

    func update(_ uid: String) throws(Breach) -> Step {
        guard !uid.isEmpty else { throw .noName }
        return .update(uid: uid)
    }

    mutating func snapshotSent() throws(Breach) -> Step {
        guard !hasSnapshot else { throw .secondSnapshot }
        hasSnapshot = true
        defer { named = [] }
        return .reconcile(named: named)
    }
}
