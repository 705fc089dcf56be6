import Kubernetes
import ObjectSource

/// Which conditions the objects of a cluster should have and which they have, and so what is to be written. A value.
///
/// A reporter's conditions of one object are written together: with server-side apply, what is not named any more goes.
struct ConditionBook: Sendable {
    /// What one reporter says of one object.
    struct Place: Hashable, Sendable, Comparable, CustomStringConvertible {
        var object: ObjectKey
        var reporter: ObjectCondition.Reporter

        var description: String { "\(object), \(reporter.rawValue)" }

        static func < (left: Place, right: Place) -> Bool {
            (left.object, left.reporter.rawValue) < (right.object, right.reporter.rawValue)
        }
    }

    struct Content: Hashable, Sendable {
        var isTrue: Bool
        var reason: String
        var message: String
        var generation: Int64 = 0
        /// When it was last true before it was false, or the other way round; as text. Not compared.
        var since = ""

        func says(_ other: Content) -> Bool {
            var other = other
            other.since = since
            return self == other
        }
    }

    typealias Set = [String: Content]

    /// What each reporter may write, and where: nothing else is looked at.
    static let types: [ObjectCondition.Reporter: (kinds: [ObjectKind], types: [String])] = [
        .service: ([.service, .serviceEntry], [Conditions.waypointBound]),
        .workloadEntry: ([.workloadEntry], [Conditions.waypointBound]),
        .ztunnelPolicy: ([.authorizationPolicy], [Conditions.ztunnelAccepted]),
        .waypointPolicy: ([.authorizationPolicy], [Conditions.waypointAccepted]),
    ]
    static let kinds: [ObjectKind] = [.service, .serviceEntry, .workloadEntry, .authorizationPolicy]

    private var wanted: [Place: Set] = [:]
    private var written: [Place: Set] = [:]
    private(set) var due: Swift.Set<Place> = []

    // MARK: What should be

    mutating func want(_ conditions: [ObjectCondition]) {
        let now = Self.places(conditions)
        for place in Swift.Set(now.keys).union(wanted.keys) where now[place] != wanted[place] { due.insert(place) }
        wanted = now
        settle()
    }

    /// One condition a type: what is said of several targets of a policy becomes one.
    private static func places(_ conditions: [ObjectCondition]) -> [Place: Set] {
        let groups = Dictionary(grouping: conditions) { Place(object: $0.object, reporter: $0.reporter) }
        return groups.mapValues { group in
            Dictionary(grouping: group, by: \.type).compactMapValues(flattened)
        }
    }

    private static func flattened(_ group: [ObjectCondition]) -> Content? {
        guard let first = group.first else { return nil }
        guard group.count > 1 else {
            return Content(
                isTrue: first.isTrue, reason: first.reason, message: first.message, generation: first.generation)
        }
        let refused = group.filter { !$0.isTrue }
        guard let example = refused.first else {
            return Content(
                isTrue: true, reason: first.reason, message: "bound to all \(group.count) targets",
                generation: first.generation)
        }
        let all = refused.count == group.count
        let reasons = Swift.Set(refused.map(\.reason))
        let list = refused.map { "\($0.ancestor): \($0.message)" }.sorted().joined(separator: "; ")
        return Content(
            isTrue: !all, reason: all ? (reasons.count == 1 ? example.reason : "Invalid") : "PartiallyInvalid",
            message: list, generation: first.generation)
    }

    // MARK: What is

    /// The server's word on an object.
    mutating func found(_ key: ObjectKey, _ node: DocumentNode) {
        let all = Self.read(node)
        for (reporter, writes) in Self.types where writes.kinds.contains(key.kind) {
            let place = Place(object: key, reporter: reporter)
            let own = all.filter { writes.types.contains($0.key) }
            written[place] = own.isEmpty ? nil : own
            due.insert(place)
        }
        settle()
    }

    /// The object is no more, or was not found.
    mutating func forget(_ place: Place) {
        written[place] = nil
        due.remove(place)
    }

    mutating func wrote(_ place: Place, _ set: Set) {
        written[place] = set.isEmpty ? nil : set
        settle()
    }

    static func read(_ node: DocumentNode) -> Set {
        var set: Set = [:]
        for item in node["status"]?["conditions"]?.elements ?? [] {
            guard let type = item["type"]?.string else { continue }
            // Protobuf's JSON has numbers of 64 bits as text.
            let generation = item["observedGeneration"].flatMap { $0.integer ?? $0.string.flatMap { Int($0) } }
            set[type] = Content(
                isTrue: item["status"]?.string == "True", reason: item["reason"]?.string ?? "",
                message: item["message"]?.string ?? "", generation: Int64(generation ?? 0),
                since: item["lastTransitionTime"]?.string ?? "")
        }
        return set
    }

    private mutating func settle() {
        due = due.filter { place in
            let (is_, should) = (written[place] ?? [:], wanted[place] ?? [:])
            return is_.count != should.count || !should.allSatisfy { is_[$0.key]?.says($0.value) ?? false }
        }
    }

    // MARK: What is to be written

    /// - Parameter now: The time, as the API writes it.
    func set(for place: Place, at now: String) -> Set {
        var set = wanted[place] ?? [:]
        for (type, content) in set {
            let old = written[place]?[type]
            let isSame = old?.isTrue == content.isTrue && old?.since.isEmpty == false
            set[type]?.since = isSame ? old?.since ?? now : now
        }
        return set
    }

    /// A server-side apply of the status.
    static func patch(_ place: Place, _ set: Set, as resource: APIResource) -> Patch {
        let conditions = set.sorted { $0.key < $1.key }.map { type, content -> JSON in
            var condition: [String: JSON] = [
                "type": .string(type), "status": .string(content.isTrue ? "True" : "False"),
                "reason": .string(content.reason), "message": .string(content.message),
                "lastTransitionTime": .string(content.since),
            ]
            if content.generation > 0 { condition["observedGeneration"] = .integer(Int(content.generation)) }
            return .object(condition)
        }
        return .apply(
            [
                "apiVersion": .string(resource.apiVersion), "kind": .string(resource.kind),
                "metadata": [
                    "name": .string(place.object.name.name), "namespace": .string(place.object.name.namespace),
                ],
                "status": ["conditions": .list(conditions)],
            ], force: true)
    }
}
