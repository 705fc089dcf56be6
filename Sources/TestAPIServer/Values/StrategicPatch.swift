import Kubernetes

/// A strategic merge patch: a merge patch that knows which lists are merged, and by what.
struct StrategicPatch {
    struct Problem: Error, Hashable { var message: String }

    private static let (patchWord, retainWord) = ("$patch", "$retainKeys")
    private static let (orderWord, deleteWord) = ("$setElementOrder/", "$deleteFromPrimitiveList/")

    let keys: ListKeys

    func apply(_ patch: JSON, to value: JSON?) throws(Problem) -> JSON { try merge(value, patch, []) }

    private func merge(_ value: JSON?, _ patch: JSON, _ path: [String]) throws(Problem) -> JSON {
        guard var changes = patch.members else { return patch }
        var result = value?.members ?? [:]
        switch changes.removeValue(forKey: Self.patchWord)?.string {
        case nil, "merge": break
        case "replace": return .object(changes)
        case "delete": return [:]
        case .some(let word): throw Problem(message: "\(Self.patchWord): \(word) is not merge, replace or delete")
        }
        if let kept = changes.removeValue(forKey: Self.retainWord)?.list {
            let names = Set(kept.compactMap(\.string))
            result = result.filter { names.contains($0.key) }
        }
        var orders: [String: [JSON]] = [:]
        for (name, change) in changes {
            if name.hasPrefix(Self.orderWord) {
                orders[String(name.dropFirst(Self.orderWord.count))] = change.list
            } else if name.hasPrefix(Self.deleteWord) {
                let list = String(name.dropFirst(Self.deleteWord.count))
                let gone = change.list ?? []
                if let old = result[list]?.list { result[list] = .list(old.filter { !gone.contains($0) }) }
            } else {
                continue
            }
            changes[name] = nil
        }
        for (name, change) in changes {
            let place = path + [name]
            switch change {
            case .null: result[name] = nil
            case .object:
                if change[Self.patchWord] == "delete" {
                    result[name] = nil
                } else {
                    let old = result[name]?.members == nil ? JSON?.none : result[name]
                    result[name] = try merge(old, change, place)
                }
            case .list(let items): result[name] = .list(try mergeList(result[name]?.list ?? [], items, place))
            default: result[name] = change
            }
        }
        for (name, order) in orders {
            if let list = result[name]?.list { result[name] = .list(sorted(list, order, path + [name])) }
        }
        return .object(result)
    }

    private func mergeList(_ old: [JSON], _ items: [JSON], _ path: [String]) throws(Problem) -> [JSON] {
        switch keys.list(at: path) {
        case .atomic: return items.map { $0.withoutDirectives }
        case .set: return old + items.filter { !old.contains($0) }
        case .map(let names):
            if items.contains(where: { $0 == [Self.patchWord: "replace"] }) {
                return items.filter { $0 != [Self.patchWord: "replace"] }
            }
            var result = old
            for item in items {
                // One member tells them apart here, whatever else server-side apply looks at.
                guard let key = item[names[0]] else {
                    throw Problem(
                        message: "map: \(item.text) does not contain declared merge key: \(names[0])")
                }
                let index = result.firstIndex { $0[names[0]] == key }
                if item[Self.patchWord] == "delete" {
                    result.removeAll { $0[names[0]] == key }
                } else if let index {
                    result[index] = try merge(result[index], item, path)
                } else {
                    result.append(try merge(nil, item, path))
                }
            }
            return result
        }
    }

    /// Elements that the order names take one another's places in it; all others stay where they are.
    private func sorted(_ list: [JSON], _ order: [JSON], _ path: [String]) -> [JSON] {
        func rank(_ item: JSON) -> Int? {
            guard case .map(let names) = keys.list(at: path) else { return order.firstIndex(of: item) }
            guard let key = item[names[0]] else { return nil }
            return order.firstIndex { $0[names[0]] == key }
        }
        let ranks = list.map(rank)
        let ordered = list.indices.filter { ranks[$0] != nil }.sorted { (ranks[$0] ?? 0, $0) < (ranks[$1] ?? 0, $1) }
        var next = ordered.makeIterator()
        return list.indices.map { ranks[$0] == nil ? list[$0] : list[next.next() ?? $0] }
    }
}

extension JSON {
    /// Of a list that is replaced as a whole: words for merging mean nothing in it.
    fileprivate var withoutDirectives: JSON {
        guard let members else { return self }
        return .object(members.filter { !$0.key.hasPrefix("$") && !$0.value.isNull }.mapValues(\.withoutDirectives))
    }
}
