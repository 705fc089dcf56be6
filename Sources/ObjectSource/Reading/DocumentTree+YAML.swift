import Yams

extension DocumentTree {
    /// The tree of what the YAML parser has made of a document.
    convenience init(_ node: Node) {
        var builder = YAMLTreeBuilder()
        builder.add(node)
        self.init(values: builder.values, text: builder.text)
    }
}

private struct YAMLTreeBuilder {
    var values: [DocumentTree.Value] = []
    var text: [UInt8] = []

    mutating func add(_ node: Node) {
        let own = values.count
        let line = UInt32(node.mark?.line ?? 0)
        switch node {
        case .scalar(let scalar):
            let start = text.count
            text += scalar.string.utf8
            values.append(
                DocumentTree.Value(
                    kind: scalar.style == .plain ? .plain : .quoted, line: line, start: UInt32(start),
                    length: UInt32(text.count - start)))
        case .mapping(let mapping):
            values.append(DocumentTree.Value(kind: .mapping, line: line))
            for (name, value) in mapping {
                if name.scalar == nil { values[own].hasOddName = true }
                add(name)
                add(value)
            }
        case .sequence(let sequence):
            values.append(DocumentTree.Value(kind: .list, line: line))
            for element in sequence { add(element) }
        case .alias:
            values.append(DocumentTree.Value(kind: .alias, line: line))
        }
        values[own].next = UInt32(values.count)
    }
}
