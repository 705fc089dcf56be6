import Kubernetes

struct SelectorProblem: Error, Hashable { var message: String }

/// A label selector as in a query: `app=web,tier in (a, b),!old`.
struct QueryLabelSelector: Hashable, Sendable {
    enum Requirement: Hashable, Sendable {
        case `in`(String, Set<String>), notIn(String, Set<String>), exists(String), absent(String)
    }
    private(set) var requirements: [Requirement] = []

    init(_ text: String) throws(SelectorProblem) {
        for part in Self.split(text) {
            let words = part.split(whereSeparator: \.isWhitespace).joined(separator: " ")
            if words.isEmpty { continue }
            requirements.append(try Self.requirement(words))
        }
    }

    func matches(_ labels: [String: String]) -> Bool {
        requirements.allSatisfy { requirement in
            switch requirement {
            case .in(let name, let values): labels[name].map(values.contains) ?? false
            case .notIn(let name, let values): !(labels[name].map(values.contains) ?? false)
            case .exists(let name): labels[name] != nil
            case .absent(let name): labels[name] == nil
            }
        }
    }

    /// At commas outside of parentheses.
    private static func split(_ text: String) -> [Substring] {
        var (parts, start, depth) = ([Substring](), text.startIndex, 0)
        for index in text.indices {
            switch text[index] {
            case "(": depth += 1
            case ")": depth -= 1
            case "," where depth == 0:
                parts.append(text[start..<index])
                start = text.index(after: index)
            default: break
            }
        }
        return parts + [text[start...]]
    }

    private static func requirement(_ text: String) throws(SelectorProblem) -> Requirement {
        func trimmed(_ part: some StringProtocol) -> String {
            part.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
        func name(_ part: some StringProtocol) throws(SelectorProblem) -> String {
            let name = trimmed(part)
            let isGood = name.allSatisfy { $0.isLetter || $0.isNumber || "-_./".contains($0) }
            guard !name.isEmpty, isGood else { throw SelectorProblem(message: "unable to parse requirement: \(text)") }
            return name
        }
        if text.hasPrefix("!") { return .absent(try name(text.dropFirst())) }
        if let range = text.firstRange(of: "!=") {
            return .notIn(try name(text[..<range.lowerBound]), [trimmed(text[range.upperBound...])])
        }
        if let range = text.firstRange(of: "==") ?? text.firstRange(of: "=") {
            return .in(try name(text[..<range.lowerBound]), [trimmed(text[range.upperBound...])])
        }
        guard let open = text.firstIndex(of: "(") else { return .exists(try name(text)) }
        let head = text[..<open].split(separator: " ")
        guard head.count == 2, text.hasSuffix(")") else {
            throw SelectorProblem(message: "unable to parse requirement: \(text)")
        }
        let inner = text[text.index(after: open)...].dropLast()
        let values = Set(inner.split(separator: ",", omittingEmptySubsequences: false).map { trimmed($0) })
        switch head[1] {
        case "in": return .in(try name(head[0]), values)
        case "notin": return .notIn(try name(head[0]), values)
        default: throw SelectorProblem(message: "unable to parse requirement: \(text)")
        }
    }
}

/// A field selector as in a query: `spec.nodeName=n1,metadata.name!=web`.
struct QueryFieldSelector: Hashable, Sendable {
    struct Requirement: Hashable, Sendable {
        var path: [String]
        var value: String
        var isEqual: Bool
    }
    private(set) var requirements: [Requirement] = []

    /// Fields that objects of a kind may be selected by, besides name and namespace.
    private static let fields: [String: Set<String>] = [
        "Pod": [
            "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
            "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
        ],
        "Event": [
            "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
            "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
            "reportingComponent", "source", "type",
        ],
        "Node": ["spec.unschedulable"], "Namespace": ["status.phase"], "Secret": ["type"],
        "Service": ["spec.clusterIP", "spec.type"], "Job": ["status.successful"],
    ]

    init(_ text: String, kind: String) throws(SelectorProblem) {
        let known = (Self.fields[kind] ?? []).union(["metadata.name", "metadata.namespace"])
        for part in text.split(separator: ",") where !part.allSatisfy(\.isWhitespace) {
            guard let range = part.firstRange(of: "!=") ?? part.firstRange(of: "==") ?? part.firstRange(of: "=") else {
                throw SelectorProblem(message: "invalid selector: '\(part)'; can't understand '\(part)'")
            }
            let name = part[..<range.lowerBound].filter { !$0.isWhitespace }
            guard known.contains(name) else {
                throw SelectorProblem(message: "field label not supported: \(name)")
            }
            requirements.append(
                Requirement(
                    path: name.split(separator: ".").map(String.init), value: String(part[range.upperBound...]),
                    isEqual: part[range] != "!="))
        }
    }

    func matches(_ object: JSON) -> Bool {
        requirements.allSatisfy { requirement in
            let value = object.at(requirement.path)
            let text =
                switch value {
                case .string(let text): text
                case .bool(let flag): "\(flag)"
                case .integer(let number): "\(number)"
                default: requirement.path == ["spec", "hostNetwork"] ? "false" : ""
                }
            return (text == requirement.value) == requirement.isEqual
        }
    }

    /// The one name that objects must have, where the selector asks for one.
    var name: String? { requirements.first { $0.path == ["metadata", "name"] && $0.isEqual }?.value }
}

/// Which objects of a kind a list or a watch is about.
struct ObjectFilter: Hashable, Sendable {
    /// Empty: of all namespaces.
    var namespace = ""
    var labels: QueryLabelSelector?
    var fields: QueryFieldSelector?

    func matches(_ object: JSON) -> Bool {
        (namespace.isEmpty || object.namespace == namespace) && (labels?.matches(object.labels) ?? true)
            && (fields?.matches(object) ?? true)
    }
}
