import Kubernetes
import Yams

extension JSON {
    struct YAMLProblem: Error, CustomStringConvertible { let description: String }

    /// The one document of a text.
    init(yaml text: [UInt8]) throws {
        guard let text = String(validating: text, as: UTF8.self), let node = try Yams.compose(yaml: text) else {
            throw YAMLProblem(description: "it is no YAML document in UTF-8")
        }
        try self.init(node, depth: 0)
    }

    private init(_ node: Node, depth: Int) throws {
        guard depth < 64 else { throw YAMLProblem(description: "nested deeper than 64 levels") }
        switch node {
        case .mapping(let mapping):
            var members: [String: JSON] = [:]
            for (name, value) in mapping {
                guard let name = name.scalar?.string else { throw YAMLProblem(description: "a name is no word") }
                members[name] = try JSON(value, depth: depth + 1)
            }
            self = .object(members)
        case .sequence(let sequence): self = .list(try sequence.map { try JSON($0, depth: depth + 1) })
        case .scalar(let scalar): self = Self.scalar(scalar)
        // One that refers to itself would have no end.
        case .alias: throw YAMLProblem(description: "aliases are not taken")
        }
    }

    private static func scalar(_ scalar: Node.Scalar) -> JSON {
        guard scalar.style == .plain else { return .string(scalar.string) }
        let word = scalar.string
        switch word {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE": return true
        case "false", "False", "FALSE": return false
        default: break
        }
        if let number = Int(word) { return .integer(number) }
        let isNumber = (word.first.map { $0.isASCII && $0.isNumber || $0 == "-" } ?? false) && Double(word) != nil
        return isNumber ? .number(word) : .string(word)
    }
}
