/// Why a text is no JSON, and where.
public struct JSONError: Error, Sendable, Hashable {
    /// What is wrong, for an operator.
    public let message: String
    /// Line of the byte at fault, from 1.
    public let line: Int
    /// Column of the byte at fault, from 1, counted in bytes.
    public let column: Int
    /// The field being read: `prevResult.ips[0].address`; empty outside of any field.
    public internal(set) var field: String = ""

    init(_ message: String, line: Int, column: Int) {
        self.message = message
        self.line = line
        self.column = column
    }
}

extension JSONError: CustomStringConvertible {
    public var description: String {
        field.isEmpty
            ? "line \(line), column \(column): \(message)"
            : "line \(line), column \(column), field \(field): \(message)"
    }
}

/// Field names as messages show them.
enum FieldPath {
    /// Longer paths are of no use to anyone and may come from hostile input.
    private static let limit = 256

    static func join(member name: String, _ rest: String) -> String {
        let name = printable(name)
        guard !rest.isEmpty else { return name }
        return shortened(rest.utf8.first == UInt8(ascii: "[") ? name + rest : "\(name).\(rest)")
    }

    static func join(index: Int, _ rest: String) -> String {
        let index = "[\(index)]"
        guard !rest.isEmpty else { return index }
        return shortened(rest.utf8.first == UInt8(ascii: "[") ? index + rest : "\(index).\(rest)")
    }

    /// A name as it is where it is plain, cut and quoted where it is not: it may hold anything.
    static func printable(_ name: String) -> String {
        let isPlain = name.utf8.count <= 64 && !name.isEmpty && name.utf8.allSatisfy { (0x21...0x7e).contains($0) }
        return isPlain ? name : quoted(name)
    }

    /// The text in quotes, with control and non-ASCII characters escaped, at most 64 characters of it.
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars.prefix(64) { result += scalar.escaped(asASCII: true) }
        return result + (text.unicodeScalars.count > 64 ? "…\"" : "\"")
    }

    private static func shortened(_ path: String) -> String {
        path.utf8.count <= limit ? path : String(path.unicodeScalars.prefix(limit)) + "…"
    }
}
