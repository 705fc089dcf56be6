import ObjectSource

/// What is known of one kind's objects on a server, and what to do next to know it better. A value, apart from I/O.
///
/// A list is taken in page by page and counts when it is whole: what was known before stands until then, so that nothing
/// seems to have gone in between. After it the changes are watched; events that come twice or too late change nothing.
struct Reflection: Sendable {
    enum Step: Hashable, Sendable {
        /// A page: the first without a token.
        case list(after: String?)
        case watch(from: String)
    }

    /// An object, or what is wrong with it.
    struct Item: Sendable {
        var name: ObjectName
        /// 0 when the server's versions are no numbers.
        var version: UInt64
        var content: Result<KubernetesObject, ObjectProblem>
    }

    enum Change: Sendable {
        case set(Item)
        case remove(ObjectName)
        /// All there is.
        case replace([ObjectName: Item])
    }

    /// Failed watches in a row after which the list is read anew: what the server has against going on may be the version.
    static let patience = 5
    /// Ends that are remembered, so that what comes late does not bring an object back.
    static let maximumTombstones = 4096

    private(set) var step = Step.list(after: nil)
    /// A whole list has been taken in.
    private(set) var isSynced = false
    private var versions: [ObjectName: UInt64] = [:]
    private var pages: [ObjectName: Item] = [:]
    private var tombstones: [ObjectName: UInt64] = [:]
    private var failures = 0

    /// For tests.
    var tombstoneCount: Int { tombstones.count }

    // MARK: Lists

    /// Takes in the page that was asked for.
    mutating func listed(_ items: [Item], version: String, next: String?) -> Change? {
        for item in items { pages[item.name] = item }
        if let next {
            step = .list(after: next)
            return nil
        }
        let all = pages
        pages = [:]
        tombstones = [:]
        versions = all.mapValues(\.version)
        step = .watch(from: version)
        isSynced = true
        failures = 0
        return .replace(all)
    }

    /// The kind is not there at all: nobody has such objects.
    mutating func kindIsMissing() -> Change {
        pages = [:]
        versions = [:]
        tombstones = [:]
        step = .list(after: nil)
        isSynced = true
        return .replace([:])
    }

    /// Begins anew at the next step; what is known stands until then.
    mutating func relist() {
        pages = [:]
        step = .list(after: nil)
    }

    // MARK: Events

    mutating func received(_ kind: WatchEvent.Kind, _ item: Item, version: String) -> Change? {
        failures = 0
        advance(to: version)
        switch kind {
        case .bookmark: return nil
        case .added, .modified:
            guard !isOld(item) else { return nil }
            versions[item.name] = item.version
            tombstones[item.name] = nil
            return .set(item)
        case .deleted:
            guard let known = versions[item.name] else { return nil }
            guard item.version == 0 || item.version >= known else { return nil }
            versions[item.name] = nil
            if tombstones.count >= Self.maximumTombstones { tombstones = [:] }
            if item.version > 0 { tombstones[item.name] = item.version }
            return .remove(item.name)
        }
    }

    mutating func bookmark(version: String) {
        failures = 0
        advance(to: version)
    }

    private func isOld(_ item: Item) -> Bool {
        guard item.version > 0 else { return false }
        return item.version <= max(versions[item.name] ?? 0, tombstones[item.name] ?? 0)
    }

    /// The watch goes on from the latest version seen, also when an earlier one comes after it.
    private mutating func advance(to version: String) {
        guard case .watch(let current) = step, !version.isEmpty else { return }
        if let old = UInt64(current), let new = UInt64(version), new < old { return }
        step = .watch(from: version)
    }

    // MARK: Failures

    mutating func failed(_ error: KubernetesError) {
        switch step {
        case .list(let token):
            // A page of a list that is no longer kept: the rest would be of another moment.
            if token != nil, error.status > 0 { relist() }
        case .watch:
            failures += error.status > 0 ? 1 : 0
            if error.code == .expired || error.code == .invalid || failures >= Self.patience {
                failures = 0
                relist()
            }
        }
    }
}
