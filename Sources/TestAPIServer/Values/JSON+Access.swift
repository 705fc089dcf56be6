import Kubernetes
import ObjectSource

extension JSON {
    /// Reads a text. A whole number is an `integer` however it came here, so that equal values are equal.
    init(text: [UInt8]) throws(JSONProblem) { self.init(reading: try DocumentTree(json: text).root) }

    init(reading node: DocumentNode) {
        if let elements = node.elements {
            self = .list(elements.map { JSON(reading: $0) })
        } else if node.isMapping {
            self = .object(Dictionary(node.fields.map { ($0.name, JSON(reading: $0.value)) }) { $1 })
        } else if let text = node.string {
            self = .string(text)
        } else if let value = node.bool {
            self = .bool(value)
        } else if let value = node.integer {
            self = .integer(value)
        } else {
            self = node.isNull ? .null : .number(node.plainText)
        }
    }

    var string: String? { if case .string(let value) = self { value } else { nil } }
    var integer: Int? { if case .integer(let value) = self { value } else { nil } }
    var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    var list: [JSON]? { if case .list(let value) = self { value } else { nil } }
    var members: [String: JSON]? { if case .object(let value) = self { value } else { nil } }
    var isNull: Bool { self == .null }

    /// A member of an object. Setting `nil` takes it away; setting a member of anything else makes an object of it.
    ///
    /// In a condition write `JSON?.none`: there a plain `nil` may be JSON's null.
    subscript(name: String) -> JSON? {
        get { members?[name] }
        set {
            // Taken out while it is changed, so that nothing is copied.
            var members = members ?? [:]
            self = .null
            members[name] = newValue
            self = .object(members)
        }
    }

    /// The value behind a row of names.
    func at(_ path: String...) -> JSON? { at(path) }

    func at(_ path: some Sequence<String>) -> JSON? {
        var value = self
        for name in path {
            guard let next = value[name] else { return nil }
            value = next
        }
        return value
    }

    /// Sets the value behind a row of names, making objects on the way; `nil` takes it away where it is.
    mutating func set(_ value: JSON?, at path: String...) { set(value, at: path[...]) }

    mutating func set(_ value: JSON?, at path: ArraySlice<String>) {
        guard let name = path.first else { return }
        guard path.count > 1 else {
            self[name] = value
            return
        }
        if value == nil, self[name] == nil { return }
        var inner = self[name] ?? [:]
        inner.set(value, at: path.dropFirst())
        self[name] = inner
    }

    /// Sets a value where there is none.
    mutating func setDefault(_ value: JSON, at path: String...) {
        if at(path) == nil { set(value, at: path[...]) }
    }

    /// Without members that are null, as a server's own types hold it.
    var withoutNulls: JSON {
        switch self {
        case .object(let members): .object(members.compactMapValues { $0.isNull ? JSON?.none : $0.withoutNulls })
        case .list(let items): .list(items.map(\.withoutNulls))
        default: self
        }
    }

    /// A word for the kind of value in messages.
    var typeName: String {
        switch self {
        case .null: "null"
        case .bool: "boolean"
        case .integer: "integer"
        case .number: "number"
        case .string: "string"
        case .list: "array"
        case .object: "object"
        }
    }

    var text: String { String(decoding: bytes, as: UTF8.self) }
}

// MARK: - Objects

extension JSON {
    var name: String { at("metadata", "name")?.string ?? "" }
    var namespace: String { at("metadata", "namespace")?.string ?? "" }
    var uid: String { at("metadata", "uid")?.string ?? "" }
    var resourceVersion: String { at("metadata", "resourceVersion")?.string ?? "" }
    var labels: [String: String] { at("metadata", "labels")?.members?.compactMapValues(\.string) ?? [:] }
    var annotations: [String: String] { at("metadata", "annotations")?.members?.compactMapValues(\.string) ?? [:] }
    var finalizers: [JSON] { at("metadata", "finalizers")?.list ?? [] }
    var isBeingDeleted: Bool { at("metadata", "deletionTimestamp") != nil }

    /// Metadata alone, as clients that need no more ask for it.
    var partialMetadata: JSON {
        ["kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": self["metadata"] ?? [:]]
    }
}
