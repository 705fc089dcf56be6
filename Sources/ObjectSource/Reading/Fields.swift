import Yams

/// A mapping of a document, with the way to it: every wrong value is reported by file, line and path.
///
/// A field that is `null` counts as absent, as in the Kubernetes API.
struct Fields {
    let file: String
    /// Empty for the document itself.
    let path: String
    let line: Int
    private var entries: [String: (line: Int, node: Node)] = [:]
    private(set) var names: [String] = []

    init(_ node: Node, file: String, path: String) throws(ObjectProblem) {
        self.file = file
        self.path = path
        line = node.mark?.line ?? 0
        guard case .mapping(let mapping) = node else {
            throw ObjectProblem(
                file: file, line: line, field: path, message: "expected a mapping, found \(Self.describe(node))")
        }
        for (key, value) in mapping {
            guard case .scalar(let name) = key else {
                throw ObjectProblem(
                    file: file, line: key.mark?.line ?? line, field: path, message: "a field's name must be a word")
            }
            if Self.isNull(value) { continue }
            entries[name.string] = (key.mark?.line ?? line, value)
            names.append(name.string)
        }
    }

    // MARK: Reporting

    func problem(_ message: String) -> ObjectProblem {
        ObjectProblem(file: file, line: line, field: path, message: message)
    }

    /// A problem with the value of a field, or with its absence.
    func problem(_ name: String, _ message: String) -> ObjectProblem {
        ObjectProblem(file: file, line: entries[name]?.line ?? line, field: join(name), message: message)
    }

    private func join(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

    static func describe(_ node: Node) -> String {
        switch node {
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        case .scalar(let scalar): isNull(node) ? "nothing" : "\"\(scalar.string.prefix(40))\""
        }
    }

    private static func isNull(_ node: Node) -> Bool {
        guard case .scalar(let scalar) = node, scalar.style == .plain else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    // MARK: Which fields there may be

    /// Fields that are not known are let pass, unless one looks like a known one misspelt: what it says would be lost.
    func expect(_ known: [String]) throws(ObjectProblem) {
        for name in names where !known.contains(name) {
            if let meant = Suggestion.nearest(to: name, among: known) {
                throw problem(name, "unknown field; did you mean \(meant)?")
            }
        }
    }

    /// Fields that are not known are refused: where a policy is concerned, what is not understood may be the point.
    func expectOnly(_ known: [String]) throws(ObjectProblem) {
        try expect(known)
        for name in names where !known.contains(name) {
            throw problem(name, "unknown field; known are \(known.joined(separator: ", "))")
        }
    }

    func has(_ name: String) -> Bool { entries[name] != nil }

    // MARK: Values

    func string(_ name: String) throws(ObjectProblem) -> String? {
        guard let (line, node) = entries[name] else { return nil }
        return try Self.string(node, file: file, line: line, path: join(name))
    }

    func requiredString(_ name: String) throws(ObjectProblem) -> String {
        guard let value = try string(name), !value.isEmpty else { throw problem(name, "is missing") }
        return value
    }

    func bool(_ name: String) throws(ObjectProblem) -> Bool? {
        guard let (line, node) = entries[name] else { return nil }
        if case .scalar(let scalar) = node, scalar.style == .plain {
            switch scalar.string {
            case "true", "True", "TRUE": return true
            case "false", "False", "FALSE": return false
            default: break
            }
        }
        throw ObjectProblem(
            file: file, line: line, field: join(name), message: "expected true or false, found \(Self.describe(node))")
    }

    /// A port number, 1 to 65535.
    func port(_ name: String) throws(ObjectProblem) -> UInt16? {
        guard let (line, node) = entries[name] else { return nil }
        if case .scalar(let scalar) = node, scalar.style == .plain, let port = Self.port(scalar.string) { return port }
        throw ObjectProblem(
            file: file, line: line, field: join(name),
            message: "expected a port from 1 to 65535, found \(Self.describe(node))")
    }

    /// A port number or the name of a container's port.
    func portOrName(_ name: String) throws(ObjectProblem) -> ServicePort.Target? {
        guard let (line, node) = entries[name] else { return nil }
        if case .scalar(let scalar) = node {
            if scalar.style != .plain, !scalar.string.isEmpty { return .name(scalar.string) }
            if let port = Self.port(scalar.string) { return .number(port) }
            if scalar.string.first?.isLetter == true { return .name(scalar.string) }
        }
        throw ObjectProblem(
            file: file, line: line, field: join(name),
            message: "expected a port from 1 to 65535 or a name, found \(Self.describe(node))")
    }

    static func port(_ text: String) -> UInt16? {
        guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
        return UInt16(text).flatMap { $0 == 0 ? nil : $0 }
    }

    func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ type: Choice.Type
    ) throws(ObjectProblem) -> Choice? {
        guard let text = try string(name) else { return nil }
        guard let value = Choice(rawValue: text) else {
            let all = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw problem(name, "\"\(text.prefix(40))\" is none of \(all)")
        }
        return value
    }

    func strings(_ name: String) throws(ObjectProblem) -> [String]? {
        try elements(name)?.enumerated().map { index, node throws(ObjectProblem) in
            try Self.string(node, file: file, line: node.mark?.line ?? line, path: "\(join(name))[\(index)]")
        }
    }

    func stringMap(_ name: String) throws(ObjectProblem) -> [String: String]? {
        guard let fields = try object(name) else { return nil }
        var result: [String: String] = [:]
        for name in fields.names { result[name] = try fields.string(name) }
        return result
    }

    func object(_ name: String) throws(ObjectProblem) -> Fields? {
        guard let (_, node) = entries[name] else { return nil }
        return try Fields(node, file: file, path: join(name))
    }

    func objects(_ name: String) throws(ObjectProblem) -> [Fields]? {
        try elements(name)?.enumerated().map { index, node throws(ObjectProblem) in
            try Fields(node, file: file, path: "\(join(name))[\(index)]")
        }
    }

    private func elements(_ name: String) throws(ObjectProblem) -> [Node]? {
        guard let (line, node) = entries[name] else { return nil }
        guard case .sequence(let sequence) = node else {
            throw ObjectProblem(
                file: file, line: line, field: join(name), message: "expected a list, found \(Self.describe(node))")
        }
        return Array(sequence)
    }

    private static func string(
        _ node: Node, file: String, line: Int, path: String
    ) throws(ObjectProblem) -> String {
        guard case .scalar(let scalar) = node else {
            throw ObjectProblem(
                file: file, line: line, field: path, message: "expected a string, found \(describe(node))")
        }
        if scalar.style == .plain, PlainScalar.isNoString(scalar.string) {
            throw ObjectProblem(
                file: file, line: line, field: path,
                message: "expected a string, found \(scalar.string.prefix(40)); put it in quotes")
        }
        return scalar.string
    }
}

/// What YAML makes of a word without quotes.
enum PlainScalar {
    private static let words: Set<String> = ["true", "false", "yes", "no", "on", "off", "null", "~"]

    /// A boolean, a number or nothing: the Kubernetes API would refuse it where a string is due.
    static func isNoString(_ text: String) -> Bool {
        if text.isEmpty || words.contains(text.lowercased()) { return true }
        let bytes = text.utf8
        guard bytes.count <= 64, bytes.contains(where: { (48...57).contains($0) }) else { return false }
        if text.hasPrefix("0x") { return bytes.dropFirst(2).allSatisfy { isHex($0) } }
        guard bytes.allSatisfy({ (48...57).contains($0) || "+-.eE_".utf8.contains($0) }) else { return false }
        return Double(text.replacing("_", with: "")) != nil
    }

    private static func isHex(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...70).contains(byte) || (97...102).contains(byte)
    }
}
