import Kubernetes

/// Who set which fields of an object: its `metadata.managedFields`.
struct FieldOwners: Hashable, Sendable {
    struct Owner: Hashable, Sendable {
        var manager: String
        /// `Apply` or `Update`.
        var operation: String
        var subresource: String
    }
    struct Record: Hashable, Sendable {
        var apiVersion: String
        var time: String
        var fields: FieldSet
    }
    private(set) var records: [Owner: Record] = [:]

    init(_ managedFields: JSON?) {
        for entry in managedFields?.list ?? [] {
            guard let manager = entry["manager"]?.string, let operation = entry["operation"]?.string,
                let fields = entry["fieldsV1"]
            else { continue }
            let owner = Owner(
                manager: manager, operation: operation, subresource: entry["subresource"]?.string ?? "")
            let record = Record(
                apiVersion: entry["apiVersion"]?.string ?? "", time: entry["time"]?.string ?? "",
                fields: FieldSet(fieldsV1: fields))
            records[owner] = record
        }
    }

    /// In the order of their time; `nil` without any.
    var managedFields: JSON? {
        if records.isEmpty { return nil }
        let sorted = records.sorted {
            ($0.value.time, $0.key.manager, $0.key.operation, $0.key.subresource)
                < ($1.value.time, $1.key.manager, $1.key.operation, $1.key.subresource)
        }
        return .list(
            sorted.map { owner, record in
                var entry: JSON = [
                    "manager": .string(owner.manager), "operation": .string(owner.operation),
                    "apiVersion": .string(record.apiVersion), "time": .string(record.time), "fieldsType": "FieldsV1",
                    "fieldsV1": record.fields.fieldsV1,
                ]
                if !owner.subresource.isEmpty { entry["subresource"] = .string(owner.subresource) }
                return entry
            })
    }

    /// After a change that was no apply: the fields that are new or other than before are its manager's alone.
    mutating func update(
        by owner: Owner, from old: JSON, to new: JSON, _ keys: ListKeys, apiVersion: String, time: String
    ) {
        let (changed, removed) = FieldSet.difference(from: old, to: new, keys)
        let lost = changed.union(removed)
        if lost.isEmpty { return }
        for (other, record) in records where other != owner {
            let left = record.fields.subtracting(lost)
            records[other]?.fields = left
            if left.isEmpty { records[other] = nil }
        }
        var own = records[owner] ?? Record(apiVersion: apiVersion, time: time, fields: FieldSet())
        let fields = own.fields.subtracting(removed).union(changed)
        if fields != own.fields { (own.time, own.apiVersion) = (time, apiVersion) }
        own.fields = fields
        records[owner] = fields.isEmpty ? nil : own
    }

    // MARK: Server-side apply

    struct Conflict: Hashable, Sendable {
        var owner: Owner
        var apiVersion: String
        var fields: [String]
    }
    struct Conflicts: Error { var list: [Conflict] }

    /// Applies a configuration onto an object: what it says is set, what it said the last time and no longer says is
    /// taken away unless another manager owns it.
    ///
    /// - Parameter isForced: Takes fields over that other managers have set to something else.
    /// - Throws: The fields that others have set to something else.
    mutating func apply(
        _ configuration: JSON, to live: JSON, by owner: Owner, isForced: Bool, _ keys: ListKeys, apiVersion: String,
        time: String
    ) throws(Conflicts) -> JSON {
        let fields = FieldSet(of: configuration, keys)
        var merged = Self.merge(live, configuration, keys, [])
        let changed = FieldSet.difference(from: live, to: merged, keys).changed
        var (conflicts, others): ([Conflict], FieldSet) = ([], FieldSet())
        for (other, record) in records where other != owner {
            let disputed = record.fields.intersection(changed)
            if disputed.isEmpty {
                others = others.union(record.fields)
                continue
            }
            conflicts.append(Conflict(owner: other, apiVersion: record.apiVersion, fields: disputed.paths))
            let left = record.fields.subtracting(disputed)
            records[other]?.fields = left
            if left.isEmpty { records[other] = nil }
            others = others.union(left)
        }
        if !isForced, !conflicts.isEmpty {
            throw Conflicts(list: conflicts.sorted { $0.owner.manager < $1.owner.manager })
        }
        if let last = records[owner]?.fields {
            let gone = last.subtracting(fields).subtracting(others)
            merged = Self.remove(gone, from: merged, keys, [], kept: others) ?? merged
        }
        let isSame = records[owner]?.fields == fields && merged == live
        records[owner] = Record(
            apiVersion: apiVersion, time: isSame ? records[owner]?.time ?? time : time, fields: fields)
        return merged
    }

    private static func merge(_ live: JSON?, _ new: JSON, _ keys: ListKeys, _ path: [String]) -> JSON {
        guard let live else { return new }
        switch (live, new) {
        case (.object(var members), .object(let changes)) where !keys.isAtomicMap(at: path):
            for (name, value) in changes { members[name] = merge(members[name], value, keys, path + [name]) }
            return .object(members)
        case (.list(var items), .list(let changes)):
            switch keys.list(at: path) {
            case .atomic: return new
            case .set: return .list(items + changes.filter { !items.contains($0) })
            case .map(let names):
                for change in changes {
                    let key = keys.key(of: change, names)
                    if let index = items.firstIndex(where: { key != nil && keys.key(of: $0, names) == key }) {
                        items[index] = merge(items[index], change, keys, path)
                    } else {
                        items.append(change)
                    }
                }
                return .list(items)
            }
        default: return new
        }
    }

    /// - Parameter kept: What others own: an element that has some of it stays.
    private static func remove(
        _ fields: FieldSet, from value: JSON, _ keys: ListKeys, _ path: [String], kept: FieldSet
    ) -> JSON? {
        guard let parts = FieldSet.parts(value, keys, path) else { return value }
        var gone: Set<String> = []
        var changed: [String: JSON] = [:]
        for (name, child) in fields.children {
            guard let (inner, place) = parts[name] else { continue }
            let others = kept.children[name] ?? FieldSet()
            if child.isMember, others.isEmpty {
                gone.insert(name)
            } else {
                let rest = remove(child, from: inner, keys, place, kept: others)
                // A map that is empty now was there for its members.
                if let rest, rest != [:] || inner == [:] || !others.isEmpty {
                    changed[name] = rest
                } else {
                    gone.insert(name)
                }
            }
        }
        switch value {
        case .object(var members):
            for name in gone { members[String(name.dropFirst(2))] = nil }
            for (name, inner) in changed { members[String(name.dropFirst(2))] = inner }
            return .object(members)
        case .list(let items):
            guard case .map(let names) = keys.list(at: path) else {
                return .list(items.filter { !gone.contains(FieldSet.value($0)) })
            }
            return .list(
                items.compactMap { item in
                    guard let name = keys.key(of: item, names).map(FieldSet.element) else { return item }
                    return gone.contains(name) ? JSON?.none : changed[name] ?? item
                })
        default: return value
        }
    }
}
