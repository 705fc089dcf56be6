import Kubernetes

/// Fields of an object, as `managedFields` lists them (`FieldsV1`): `f:` a member, `k:` an element of a list by its
/// keys, `v:` a value of a set; `.` says that the place itself is meant, too.
struct FieldSet: Hashable, Sendable {
    var isMember = false
    var children: [String: FieldSet] = [:]

    var isEmpty: Bool { !isMember && children.isEmpty }

    // MARK: As JSON

    init() {}

    init(fieldsV1 value: JSON) {
        for (name, inner) in value.members ?? [:] where name != "." {
            var child = FieldSet(fieldsV1: inner)
            // `{}` is a member without anything in it.
            if inner.members?.isEmpty ?? true { child.isMember = true }
            children[name] = child
        }
        isMember = value["."] != nil
    }

    var fieldsV1: JSON {
        var members = children.mapValues { child in child.children.isEmpty ? [:] : child.fieldsV1 }
        if isMember { members["."] = [:] }
        return .object(members)
    }

    // MARK: As a set

    private func combined(_ other: FieldSet, _ keeps: (Bool, Bool) -> Bool) -> FieldSet {
        var result = FieldSet()
        result.isMember = keeps(isMember, other.isMember)
        for name in Set(children.keys).union(other.children.keys) {
            let child = (children[name] ?? FieldSet()).combined(other.children[name] ?? FieldSet(), keeps)
            if !child.isEmpty { result.children[name] = child }
        }
        return result
    }

    func union(_ other: FieldSet) -> FieldSet { combined(other) { $0 || $1 } }
    func intersection(_ other: FieldSet) -> FieldSet { combined(other) { $0 && $1 } }
    func subtracting(_ other: FieldSet) -> FieldSet { combined(other) { $0 && !$1 } }

    /// Every field, as a path for people: `.spec.containers[name="web"].image`.
    var paths: [String] { paths(after: "").sorted() }

    private func paths(after prefix: String) -> [String] {
        var result = isMember ? [prefix] : []
        for (name, child) in children { result += child.paths(after: prefix + Self.readable(name)) }
        return result
    }

    private static func readable(_ name: String) -> String {
        let text = String(name.dropFirst(2))
        if name.hasPrefix("f:") { return ".\(text)" }
        // Only from this type's own names, so it is JSON.
        guard name.hasPrefix("k:"), let key = (try? JSON(text: Array(text.utf8)))?.members else { return "[=\(text)]" }
        return "[\(key.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.text)" }.joined(separator: ","))]"
    }
}

extension FieldSet {
    static func field(_ name: String) -> String { "f:\(name)" }
    static func element(_ key: JSON) -> String { "k:\(key.text)" }
    static func value(_ value: JSON) -> String { "v:\(value.text)" }

    /// All that an object says, without what the server itself decides.
    init(of object: JSON, _ keys: ListKeys) {
        self.init(Self.owned(object), keys, [])
    }

    /// An object without what nobody owns.
    static func owned(_ object: JSON) -> JSON {
        var result = object
        result["apiVersion"] = nil
        result["kind"] = nil
        if var metadata = result["metadata"] {
            for name in [
                "name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields",
                "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds",
            ] { metadata[name] = nil }
            result["metadata"] = metadata == [:] ? JSON?.none : metadata
        }
        return result
    }

    fileprivate init(_ value: JSON, _ keys: ListKeys, _ path: [String]) {
        switch value {
        case .object(let members) where !members.isEmpty && !keys.isAtomicMap(at: path):
            for (name, inner) in members { children[Self.field(name)] = FieldSet(inner, keys, path + [name]) }
        case .list(let items) where !items.isEmpty:
            switch keys.list(at: path) {
            case .atomic: isMember = true
            case .set: for item in items { children[Self.value(item), default: FieldSet()].isMember = true }
            case .map(let names):
                for item in items {
                    guard let key = keys.key(of: item, names) else { continue }
                    var child = FieldSet(item, keys, path)
                    child.isMember = true
                    children[Self.element(key)] = child
                }
            }
        default: isMember = true
        }
    }

    /// What one object has otherwise than another: added or changed, and no longer there.
    static func difference(
        from old: JSON, to new: JSON, _ keys: ListKeys
    ) -> (changed: FieldSet, removed: FieldSet) {
        compare(owned(old), owned(new), keys, [])
    }

    private static func compare(
        _ old: JSON?, _ new: JSON?, _ keys: ListKeys, _ path: [String]
    ) -> (changed: FieldSet, removed: FieldSet) {
        guard old != new else { return (FieldSet(), FieldSet()) }
        guard let old else { return (new.map { FieldSet($0, keys, path) } ?? FieldSet(), FieldSet()) }
        guard let new else { return (FieldSet(), FieldSet(old, keys, path)) }
        let (left, right): ([String: (JSON, [String])], [String: (JSON, [String])])
        switch (parts(old, keys, path), parts(new, keys, path)) {
        case (let first?, let second?): (left, right) = (first, second)
        default: return (FieldSet(new, keys, path), FieldSet())
        }
        var (changed, removed) = (FieldSet(), FieldSet())
        for name in Set(left.keys).union(right.keys) {
            let inner = left[name]?.1 ?? right[name]?.1 ?? path
            var (more, gone) = compare(left[name]?.0, right[name]?.0, keys, inner)
            if !name.hasPrefix("f:") {
                if left[name] == nil { more.isMember = true }
                if right[name] == nil { gone.isMember = true }
            }
            if !more.isEmpty { changed.children[name] = more }
            if !gone.isEmpty { removed.children[name] = gone }
        }
        return (changed, removed)
    }

    /// What a value that is merged is made of, by names as above, each with its path; `nil` for one that is a whole.
    static func parts(_ value: JSON, _ keys: ListKeys, _ path: [String]) -> [String: (JSON, [String])]? {
        switch value {
        case .object(let members):
            guard !keys.isAtomicMap(at: path) else { return nil }
            return Dictionary(
                members.map { (field($0.key), ($0.value, path + [$0.key])) }, uniquingKeysWith: { $1 })
        case .list(let items):
            switch keys.list(at: path) {
            case .atomic: return nil
            case .set: return Dictionary(items.map { (Self.value($0), ($0, path)) }, uniquingKeysWith: { $1 })
            case .map(let names):
                let named = items.compactMap { item in
                    keys.key(of: item, names).map { (element($0), (item, path)) }
                }
                return Dictionary(named, uniquingKeysWith: { $1 })
            }
        default: return nil
        }
    }
}
