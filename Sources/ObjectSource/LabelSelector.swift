import Yams

/// Which labels an object must have, as Kubernetes writes it. One that asks for nothing matches everything.
public struct LabelSelector: Hashable, Sendable {
    public struct Requirement: Hashable, Sendable {
        public enum Operator: String, Hashable, Sendable, CaseIterable {
            case `in` = "In"
            /// Also of an object that has no such label.
            case notIn = "NotIn"
            case exists = "Exists"
            case doesNotExist = "DoesNotExist"
        }
        public var key: String
        public var `operator`: Operator
        public var values: [String]

        public init(_ key: String, _ operator: Operator, _ values: [String] = []) {
            self.key = key
            self.operator = `operator`
            self.values = values
        }

        func matches(_ labels: [String: String]) -> Bool {
            switch self.operator {
            case .in: labels[key].map { values.contains($0) } ?? false
            case .notIn: labels[key].map { !values.contains($0) } ?? true
            case .exists: labels[key] != nil
            case .doesNotExist: labels[key] == nil
            }
        }
    }

    public var labels: [String: String]
    public var requirements: [Requirement]

    public init(labels: [String: String] = [:], requirements: [Requirement] = []) {
        self.labels = labels
        self.requirements = requirements
    }

    public var isEmpty: Bool { labels.isEmpty && requirements.isEmpty }

    public func matches(_ labels: [String: String]) -> Bool {
        labels.isMatched(by: self.labels) && requirements.allSatisfy { $0.matches(labels) }
    }
}

/// Who belongs in the mesh: pods that one selector matches, in namespaces that the other matches.
public struct EnablementSelector: Hashable, Sendable {
    public var pods: LabelSelector
    public var namespaces: LabelSelector

    public init(pods: LabelSelector = LabelSelector(), namespaces: LabelSelector = LabelSelector()) {
        self.pods = pods
        self.namespaces = namespaces
    }

    /// Istio's: pods that say `ambient`, and those of namespaces that do, unless they say `none`.
    public static let standard = [
        EnablementSelector(pods: LabelSelector(labels: [MeshLabel.dataplaneMode: "ambient"])),
        EnablementSelector(
            pods: LabelSelector(requirements: [.init(MeshLabel.dataplaneMode, .notIn, ["none"])]),
            namespaces: LabelSelector(labels: [MeshLabel.dataplaneMode: "ambient"])),
    ]

    /// Reads a list as `AMBIENT_ENABLEMENT_SELECTOR` has it. An empty one enrols nobody.
    public static func read(_ yaml: String, name: String) throws(ObjectProblem) -> [EnablementSelector] {
        let node: Node?
        do {
            try YAMLGuard.check(Array(yaml.utf8))
            node = try compose(yaml: yaml)
        } catch let error as YAMLGuard.Refusal {
            throw ObjectProblem(file: name, line: error.line, message: error.message)
        } catch {
            throw ObjectProblem(file: name, message: "is no YAML")
        }
        guard let node else { return [] }
        guard let elements = DocumentTree(node).root.elements else {
            throw ObjectProblem(file: name, message: "expected a list of podSelector and namespaceSelector")
        }
        var result: [EnablementSelector] = []
        for (index, element) in elements.enumerated() {
            let fields = try Fields(element, file: name, path: "[\(index)]")
            try fields.expectOnly(["podSelector", "namespaceSelector"])
            result.append(
                EnablementSelector(
                    pods: try LabelSelector(fields.object("podSelector")),
                    namespaces: try LabelSelector(fields.object("namespaceSelector"))))
        }
        return result
    }
}

extension LabelSelector {
    init(_ fields: Fields?) throws(ObjectProblem) {
        self.init()
        guard let fields else { return }
        try fields.expectOnly(["matchLabels", "matchExpressions"])
        labels = try fields.stringMap("matchLabels") ?? [:]
        for expression in try fields.objects("matchExpressions") ?? [] {
            try expression.expectOnly(["key", "operator", "values"])
            guard let kind = try expression.choice("operator", Requirement.Operator.self) else {
                throw expression.problem("operator", "is missing")
            }
            let values = try expression.strings("values") ?? []
            guard values.isEmpty == (kind == .exists || kind == .doesNotExist) else {
                throw expression.problem(
                    "values", values.isEmpty ? "is missing" : "means nothing with \(kind.rawValue)")
            }
            requirements.append(Requirement(try expression.requiredString("key"), kind, values))
        }
    }
}
