/// A document as its values, in the order they were written, whether it came as YAML or as JSON.
///
/// The values lie in one row: a list or a mapping, then what is in it, name before value, each with the place where the
/// next of its level begins. So a document of any size costs two pieces of memory, and what nobody asks for becomes no
/// object at all.
public final class DocumentTree: Sendable {
    enum Kind: UInt8 {
        /// Children are names and values in turn.
        case mapping
        case list
        /// Without quotes: a number, a truth value, nothing, and in YAML any word.
        case plain
        case quoted
        /// An alias of YAML, which is accepted nowhere.
        case alias
    }

    struct Value {
        var kind: Kind
        /// Of a mapping: a name in it is no word.
        var hasOddName = false
        /// From 1; 0 when nothing is known.
        var line: UInt32
        /// Where the bytes of a scalar are.
        var start: UInt32 = 0
        var length: UInt32 = 0
        /// The value after this one and all that is in it.
        var next: UInt32 = 0
    }

    let values: [Value]
    /// What scalars are made of.
    private let text: [UInt8]
    /// Scalars that are not in the text as they are meant, behind it.
    private let extra: [UInt8]

    init(values: [Value], text: [UInt8], extra: [UInt8] = []) {
        self.values = values
        self.text = text
        self.extra = extra
    }

    public var root: DocumentNode { DocumentNode(tree: self, index: 0) }

    func string(_ value: Value) -> String {
        let start = Int(value.start)
        if start >= text.count, value.length > 0 {
            return String(decoding: extra[start - text.count..<start - text.count + Int(value.length)], as: UTF8.self)
        }
        return String(decoding: text[min(start, text.count)..<start + Int(value.length)], as: UTF8.self)
    }

    func isEqual(_ value: Value, to name: String) -> Bool {
        let bytes = name.utf8
        guard bytes.count == Int(value.length) else { return false }
        let start = Int(value.start)
        if start >= text.count {
            return bytes.elementsEqual(extra[max(0, start - text.count)..<max(0, start - text.count) + bytes.count])
        }
        var index = start
        for byte in bytes {
            guard text[index] == byte else { return false }
            index += 1
        }
        return true
    }
}

/// A value of a document.
public struct DocumentNode: Sendable {
    let tree: DocumentTree
    let index: Int

    var value: DocumentTree.Value { tree.values[index] }
    var line: Int { Int(value.line) }
    var kind: DocumentTree.Kind { value.kind }
    var scalar: String { tree.string(value) }

    /// Of a mapping: names with their values, as they were written. Of anything else: nothing.
    var members: Members { Members(tree: tree, parent: kind == .mapping ? index : nil) }

    struct Members: Sequence, IteratorProtocol {
        private let tree: DocumentTree
        private var index: Int
        private let end: Int

        init(tree: DocumentTree, parent: Int?) {
            self.tree = tree
            index = parent.map { $0 + 1 } ?? 0
            end = parent.map { Int(tree.values[$0].next) } ?? 0
        }

        mutating func next() -> (name: DocumentNode, value: DocumentNode)? {
            guard index < end else { return nil }
            let name = DocumentNode(tree: tree, index: index)
            let value = DocumentNode(tree: tree, index: Int(name.value.next))
            index = Int(value.value.next)
            return (name, value)
        }
    }

    func member(_ name: String) -> (name: DocumentNode, value: DocumentNode)? {
        for member in members where tree.isEqual(member.name.value, to: name) {
            return member.value.isNull ? nil : member
        }
        return nil
    }
}

extension DocumentNode {
    /// The value of a field. What is `null` counts as absent; of a name that is there twice the first counts.
    public subscript(name: String) -> DocumentNode? { member(name)?.value }

    /// What is in a list; `nil` for anything else.
    public var elements: [DocumentNode]? {
        guard kind == .list else { return nil }
        var result: [DocumentNode] = []
        var next = index + 1
        while next < Int(value.next) {
            result.append(DocumentNode(tree: tree, index: next))
            next = Int(tree.values[next].next)
        }
        return result
    }

    /// The names of a mapping's fields, in their order.
    public var names: [String] { members.map { $0.name.scalar } }

    /// A value in quotes.
    public var string: String? { kind == .quoted ? scalar : nil }
    public var integer: Int? { kind == .plain ? Int(scalar) : nil }
    public var bool: Bool? {
        guard kind == .plain else { return nil }
        return switch scalar {
        case "true", "True", "TRUE": true
        case "false", "False", "FALSE": false
        default: nil
        }
    }
    public var isMapping: Bool { kind == .mapping }
    public var isNull: Bool {
        guard kind == .plain else { return false }
        return value.length == 0 || ["~", "null", "Null", "NULL"].contains(scalar)
    }
    /// A scalar as it was written.
    public var plainText: String { kind == .plain || kind == .quoted ? scalar : "" }
    /// Of a mapping: names with their values, those that are `null` included. Of anything else: nothing.
    public var fields: [(name: String, value: DocumentNode)] { members.map { ($0.name.scalar, $0.value) } }
}
