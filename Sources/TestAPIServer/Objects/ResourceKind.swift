import Kubernetes

/// A kind of objects that the server knows.
struct ResourceKind: Hashable, Sendable {
    /// Empty for the core group.
    var group: String
    /// The preferred one first.
    var versions: [String]
    var plural: String
    var kind: String
    var shortNames: [String] = []
    var isNamespaced = true
    /// `status` is written by way of its own path alone.
    var hasStatus = false
    /// Counts changes of what is neither metadata nor status.
    var hasGeneration = false
    /// Of Kubernetes itself: strategic merge patches work, its lists have keys.
    var isBuiltIn = true
    var categories: [String] = []
    /// By version: columns of its own, as a CustomResourceDefinition has them.
    var printerColumns: [String: [JSON]] = [:]

    var singular: String { kind.lowercased() }
    /// What the server files its objects under.
    var key: String { qualified }
    /// As in messages: `pods`, `leases.coordination.k8s.io`.
    var qualified: String { group.isEmpty ? plural : "\(plural).\(group)" }
    var listKeys: ListKeys { ListKeys(kind: kind, isBuiltIn: isBuiltIn) }

    func apiVersion(_ version: String) -> String { group.isEmpty ? version : "\(group)/\(version)" }

    func details(_ name: String) -> JSON {
        var details: JSON = ["kind": .string(plural)]
        if !name.isEmpty { details["name"] = .string(name) }
        if !group.isEmpty { details["group"] = .string(group) }
        return details
    }

    /// Verbs as discovery lists them.
    var verbs: [String] {
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    }
}

/// All kinds that a server serves.
struct ResourceKinds: Sendable {
    private(set) var all: [String: ResourceKind] = [:]

    init() { for kind in Self.known { all[kind.key] = kind } }

    func find(group: String, version: String, plural: String) -> ResourceKind? {
        let key = group.isEmpty ? plural : "\(plural).\(group)"
        guard let kind = all[key], kind.versions.contains(version) else { return nil }
        return kind
    }

    /// The groups with their versions, the preferred first; the core group aside.
    var groups: [(name: String, versions: [String])] {
        var versions: [String: [String]] = [:]
        for kind in all.values.sorted(by: { $0.key < $1.key }) where !kind.group.isEmpty {
            for version in kind.versions where !(versions[kind.group] ?? []).contains(version) {
                versions[kind.group, default: []].append(version)
            }
        }
        return versions.sorted { $0.key < $1.key }.map { ($0.key, $0.value.sorted(by: Self.isPreferred)) }
    }

    /// `v1` before `v1beta1` before `v1alpha1`, higher numbers first.
    static func isPreferred(_ left: String, _ right: String) -> Bool {
        func rank(_ version: String) -> (Int, Int, Int) {
            let stage = version.contains("alpha") ? 0 : version.contains("beta") ? 1 : 2
            let numbers = version.split { !$0.isNumber }.compactMap { Int($0) }
            return (stage, numbers.first ?? 0, numbers.count > 1 ? numbers[1] : 0)
        }
        return rank(left) > rank(right)
    }

    func kinds(group: String, version: String) -> [ResourceKind] {
        all.values.filter { $0.group == group && $0.versions.contains(version) }.sorted { $0.plural < $1.plural }
    }

    /// Whether a kind that the server knows all along is served.
    mutating func setServes(_ key: String, _ serves: Bool) {
        all[key] = serves ? Self.known.first { $0.key == key } : nil
    }

    // MARK: Definitions

    /// Takes in what a CustomResourceDefinition defines.
    mutating func define(_ definition: JSON) {
        guard let kind = ResourceKind(definition: definition) else { return }
        all[kind.key] = kind
    }

    /// A definition is gone: its kind is, too, unless the server knew it all along.
    mutating func undefine(_ definition: JSON) {
        guard let kind = ResourceKind(definition: definition) else { return }
        all[kind.key] = Self.known.first { $0.key == kind.key }
    }
}

extension ResourceKind {
    init?(definition: JSON) {
        guard let spec = definition["spec"], let group = spec["group"]?.string, let names = spec["names"],
            let plural = names["plural"]?.string, let kind = names["kind"]?.string
        else { return nil }
        let served = (spec["versions"]?.list ?? []).filter { $0["served"]?.bool ?? false }
        let versions = served.compactMap { $0["name"]?.string }.sorted(by: ResourceKinds.isPreferred)
        if versions.isEmpty { return nil }
        self.init(group: group, versions: versions, plural: plural, kind: kind)
        shortNames = names["shortNames"]?.list?.compactMap(\.string) ?? []
        categories = names["categories"]?.list?.compactMap(\.string) ?? []
        isNamespaced = spec["scope"]?.string == "Namespaced"
        hasStatus = served.contains { $0.at("subresources", "status") != nil }
        hasGeneration = true
        isBuiltIn = false
        for version in served {
            guard let name = version["name"]?.string else { continue }
            printerColumns[name] = version["additionalPrinterColumns"]?.list
        }
    }
}
