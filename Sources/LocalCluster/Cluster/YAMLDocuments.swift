import Yams

/// The documents of a YAML text.
enum YAMLDocuments {
    /// - Throws: The parser's error with line and column; nothing is returned of a text that is wrong anywhere.
    static func read(_ text: String) throws -> [Node] {
        // Asked for one by one: a copy of the sequence, such as an array makes, keeps the error to itself.
        var documents = try compose_all(yaml: text)
        var nodes: [Node] = []
        while let node = documents.next() { nodes.append(node) }
        // The sequence ends at an error as it ends at the end.
        if let error = documents.error { throw error }
        return nodes
    }

    /// The names of the YAML files of a folder, in order.
    static func files(in folder: String) -> [String] {
        Files.names(in: folder).filter { !$0.hasPrefix(".") && ($0.hasSuffix(".yaml") || $0.hasSuffix(".yml")) }
    }
}
