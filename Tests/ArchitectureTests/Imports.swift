/// The modules a Swift source imports.
enum Imports {
    /// Reads `import X`, with attributes (`@testable`, `@preconcurrency`), access levels (`package import`), kinds
    /// (`import struct X.Y`) and submodules (`import X.Y`).
    static func modules(in source: String) -> Set<String> {
        let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias", "actor"]
        let levels: Set<Substring> = ["public", "package", "internal", "fileprivate", "private"]
        var found: Set<String> = []
        for line in source.split(separator: "\n") {
            var words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })[...]
            while let first = words.first, first.hasPrefix("@") || levels.contains(first) { words.removeFirst() }
            guard words.first == "import", words.count >= 2 else { continue }
            words.removeFirst()
            if let kind = words.first, kinds.contains(kind), words.count >= 2 { words.removeFirst() }
            guard let path = words.first, let module = path.split(separator: ".").first else { continue }
            found.insert(String(module.prefix { $0.isLetter || $0.isNumber || $0 == "_" }))
        }
        return found
    }
}
