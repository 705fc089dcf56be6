import Kubernetes

/// All objects of a cluster and how they came to be: a value, so that a dry run works on a copy.
struct Store: Sendable {
    struct ID: Hashable, Comparable, Sendable {
        var namespace: String
        var name: String

        static func < (left: ID, right: ID) -> Bool {
            (left.namespace, left.name) < (right.namespace, right.name)
        }
    }

    /// A change, as watches tell it.
    struct Change: Sendable {
        var version: Int
        /// ``ResourceKind/key``.
        var kind: String
        var id: ID
        /// As it was before; `nil` when it is new.
        var old: JSON?
        /// As it is now; `nil` when it is gone.
        var new: JSON?
        /// The last state of an object that is gone, with the version of its end.
        var last: JSON
    }

    /// One number counts the changes of all objects.
    private(set) var version = 1
    private(set) var objects: [String: [ID: JSON]] = [:]
    /// In the order of their versions.
    private(set) var history: [Change] = []
    /// Changes up to this version are no longer known.
    private(set) var compacted = 0
    var kinds = ResourceKinds()
    /// Changes that are kept, at least; as many again may be.
    var historyLimit = 10_000
    /// PEM of what signs the server's certificate; in every namespace when it is there.
    var authority: String?

    func get(_ kind: ResourceKind, _ id: ID) -> JSON? { objects[kind.key]?[id] }

    /// Writes an object as it is, with a version of its own, or takes it away.
    /// - Returns: What was written, or the object's last state.
    @discardableResult
    mutating func record(_ new: JSON?, _ kind: ResourceKind, _ id: ID) -> JSON {
        let old = objects[kind.key]?[id]
        version += 1
        var last = new ?? old ?? [:]
        last.set(.string(String(version)), at: "metadata", "resourceVersion")
        // `nil` alone could be JSON's null as well.
        let now = new == nil ? JSON?.none : last
        objects[kind.key, default: [:]][id] = now
        history.append(
            Change(version: version, kind: kind.key, id: id, old: old, new: now, last: last))
        if history.count > historyLimit * 2 { compact(to: history[history.count - historyLimit - 1].version) }
        if kind.key == "customresourcedefinitions.apiextensions.k8s.io" {
            if new == nil { kinds.undefine(last) } else { kinds.define(last) }
        }
        return last
    }

    /// Forgets changes up to a version: whoever wants to go on from an earlier one is told 410.
    mutating func compact(to version: Int? = nil) {
        compacted = max(compacted, min(version ?? self.version, self.version))
        history.removeSubrange(..<firstChange(after: compacted))
    }

    /// Counts on without a change, as changes of things that nobody sees do.
    mutating func advance() { version += 1 }

    private func firstChange(after version: Int) -> Int {
        var (low, high) = (0, history.count)
        while low < high {
            let middle = (low + high) / 2
            if history[middle].version > version { high = middle } else { low = middle + 1 }
        }
        return low
    }

    func changes(after version: Int) -> ArraySlice<Change> { history[firstChange(after: version)...] }

    // MARK: Lists

    /// The objects of a kind at a version, as far back as the changes are known.
    func state(_ kind: ResourceKind, at version: Int) throws(APIFailure) -> [ID: JSON] {
        try check(version)
        var result = objects[kind.key] ?? [:]
        for change in changes(after: version).reversed() where change.kind == kind.key {
            result[change.id] = change.old
        }
        return result
    }

    /// - Throws: When a version is no longer, or not yet, known.
    func check(_ version: Int) throws(APIFailure) {
        guard version >= compacted else {
            throw .expired("too old resource version: \(version) (\(compacted))")
        }
        guard version <= self.version else {
            throw APIFailure(
                504, "Timeout", "Too large resource version: \(version), current: \(self.version)",
                details: [
                    "causes": [["reason": "ResourceVersionTooLarge", "message": "Too large resource version"]],
                    "retryAfterSeconds": 1,
                ], retryAfter: 1)
        }
    }

    struct Page {
        var items: [JSON]
        /// Of the whole list.
        var version: Int
        var next: String?
        /// Objects on later pages; only told where nothing is selected.
        var remaining: Int?
    }

    struct ListRequest {
        var filter = ObjectFilter()
        /// 0: all of them.
        var limit = 0
        var token: String?
        var version: String?
        /// `Exact` or `NotOlderThan`.
        var match: String?
    }

    func list(_ kind: ResourceKind, _ request: ListRequest) throws(APIFailure) -> Page {
        var (version, start): (Int, ID?) = (self.version, nil)
        if let token = request.token {
            guard request.version ?? "" == "" || request.version == "0" else {
                throw .badRequest("specifying resource version is not allowed when using continue")
            }
            let place = try ContinueToken(token)
            (version, start) = (place.version, place.after)
            if version < compacted {
                throw .expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a "
                        + "new list without the continue parameter.")
            }
        } else if let text = request.version, !text.isEmpty, text != "0" {
            guard let wanted = Int(text) else {
                throw .badRequest("Invalid value: \"\(text)\": resourceVersion is no number")
            }
            if request.match == "Exact" { version = wanted } else if wanted > self.version { try check(wanted) }
        }
        let state = try version == self.version ? objects[kind.key] ?? [:] : state(kind, at: version)
        var all: [(key: ID, value: JSON)] = []
        for (id, object) in state where request.filter.matches(object) {
            if let start, id <= start { continue }
            all.append((id, object))
        }
        all.sort { $0.key < $1.key }
        let page = request.limit > 0 ? all.prefix(request.limit) : all[...]
        var next: String?
        if page.count < all.count, let last = page.last { next = ContinueToken(version: version, after: last.key).text }
        let isWhole = request.filter.labels == nil && request.filter.fields == nil
        return Page(
            items: page.map(\.value), version: version, next: next,
            remaining: next != nil && isWhole ? all.count - page.count : nil)
    }

    struct ContinueToken {
        var version: Int
        var after: ID

        init(version: Int, after: ID) {
            self.version = version
            self.after = after
        }

        init(_ text: String) throws(APIFailure) {
            let parts = text.split(separator: "~", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 4, parts[0] == "c", let version = Int(parts[1]) else {
                throw .badRequest("continue key is not valid: it is no token of this server")
            }
            self.version = version
            after = ID(namespace: parts[2], name: parts[3])
        }

        /// Names hold no `~`.
        var text: String { "c~\(version)~\(after.namespace)~\(after.name)" }
    }

    // MARK: Watches

    /// What a watch is told of a change, if anything: an object that begins or ends to be selected comes and goes.
    static func event(_ change: Change, _ filter: ObjectFilter) -> (type: String, object: JSON)? {
        let before = change.old.map(filter.matches) ?? false
        let after = change.new.map(filter.matches) ?? false
        switch (before, after) {
        case (false, true): return ("ADDED", change.last)
        case (true, true): return ("MODIFIED", change.last)
        case (true, false):
            // Of an object that is still there: as it was when it was selected, at the version that ended this.
            guard change.new != nil, var old = change.old else { return ("DELETED", change.last) }
            old.set(.string(String(change.version)), at: "metadata", "resourceVersion")
            return ("DELETED", old)
        case (false, false): return nil
        }
    }
}
