import ObjectSource

/// What several reflectors know, as one snapshot. A value: fed with changes, asked for the outcome.
struct ClusterContents: Sendable {
    private(set) var snapshot = ObjectSnapshot()
    private var problems: [ObjectKey: ObjectProblem] = [:]
    private var missing: Set<ObjectKind>

    init(kinds: Set<ObjectKind>) { missing = kinds }

    /// Every kind has been read whole.
    var isSynced: Bool { missing.isEmpty }

    /// - Returns: Whether anything differs now.
    mutating func apply(_ change: Reflection.Change, of kind: ObjectKind) -> Bool {
        var differs = false
        switch change {
        case .set(let item): differs = set(item, kind)
        case .remove(let name): differs = remove(ObjectKey(kind: kind, name: name))
        case .replace(let items):
            differs = missing.remove(kind) != nil
            for name in snapshot.names(of: kind) where items[name] == nil {
                differs = remove(ObjectKey(kind: kind, name: name)) || differs
            }
            for key in problems.keys where key.kind == kind && items[key.name] == nil {
                differs = remove(key) || differs
            }
            for item in items.values { differs = set(item, kind) || differs }
        }
        if differs { snapshot.version += 1 }
        return differs
    }

    private mutating func set(_ item: Reflection.Item, _ kind: ObjectKind) -> Bool {
        let key = ObjectKey(kind: kind, name: item.name)
        switch item.content {
        case .success(let object):
            let hadProblem = clear(key)
            guard snapshot.object(key) != object else { return hadProblem }
            snapshot.insert(object)
            return true
        case .failure(let problem):
            // The last good form of the object stays, as with a file.
            guard problems[key] != problem else { return false }
            problems[key] = problem
            snapshot.problems = problems.values.sorted()
            return true
        }
    }

    private mutating func remove(_ key: ObjectKey) -> Bool {
        let hadProblem = clear(key)
        return snapshot.remove(key) || hadProblem
    }

    private mutating func clear(_ key: ObjectKey) -> Bool {
        guard problems.removeValue(forKey: key) != nil else { return false }
        snapshot.problems = problems.values.sorted()
        return true
    }
}
