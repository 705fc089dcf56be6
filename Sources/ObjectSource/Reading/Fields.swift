/// A mapping of a document, with the way to it: every wrong value is reported by file, line and path.
///
/// A field that is `null` counts as absent, as in the Kubernetes API.
struct Fields {
    /// Who wrote the document, which says how much is to be forgiven.
    enum Origin {
        /// Somebody with an editor: a field that looks like a known one misspelt is a problem.
        case file
        /// An API server, which has checked the object: what is unknown is newer than this program, and what the mesh
        /// has no use for is dropped.
        case server
    }

    let file: String
    let origin: Origin
    private let node: DocumentNode
    private let way: Way

    init(_ node: DocumentNode, file: String, path: String, origin: Origin = .file) throws(ObjectProblem) {
        try self.init(node, file: file, way: path.isEmpty ? .root : .field(.root, path), origin: origin)
    }

    private init(_ node: DocumentNode, file: String, way: Way, origin: Origin) throws(ObjectProblem) {
        self.node = node
        self.file = file
        self.way = way
        self.origin = origin
        guard node.kind == .mapping else {
            throw ObjectProblem(
                file: file, line: node.line, field: way.text,
                message: "expected a mapping, found \(Self.describe(node))")
        }
        if node.value.hasOddName {
            let odd = node.members.first { $0.name.kind != .plain && $0.name.kind != .quoted }
            throw ObjectProblem(
                file: file, line: odd?.name.line ?? node.line, field: way.text,
                message: "a field's name must be a word")
        }
    }

    /// The path of a field, put into words only when somebody asks for it.
    private indirect enum Way {
        case root
        case field(Way, String)
        case element(Way, Int)

        var text: String {
            switch self {
            case .root: ""
            case .field(.root, let name): name
            case .field(let way, let name): "\(way.text).\(name)"
            case .element(let way, let index): "\(way.text)[\(index)]"
            }
        }
    }

    /// Empty for the document itself.
    var path: String { way.text }
    var line: Int { node.line }
    /// The names of the fields that are there, in their order.
    var names: [String] { node.members.compactMap { $0.value.isNull ? nil : $0.name.scalar } }

    /// A field's value and the line of its name.
    private func entry(_ name: String) -> (line: Int, node: DocumentNode)? {
        node.member(name).map { ($0.name.line, $0.value) }
    }

    // MARK: Reporting

    func problem(_ message: String) -> ObjectProblem {
        ObjectProblem(file: file, line: line, field: path, message: message)
    }

    /// A problem with the value of a field, or with its absence.
    func problem(_ name: String, _ message: String) -> ObjectProblem {
        problem(line: entry(name)?.line ?? line, name, message)
    }

    private func problem(line: Int, _ name: String, _ message: String) -> ObjectProblem {
        ObjectProblem(file: file, line: line, field: Way.field(way, name).text, message: message)
    }

    static func describe(_ node: DocumentNode) -> String {
        switch node.kind {
        case .mapping: "a mapping"
        case .list: "a list"
        case .alias: "an alias"
        case .plain, .quoted: node.isNull ? "nothing" : "\"\(node.scalar.prefix(40))\""
        }
    }

    // MARK: Which fields there may be

    /// Fields that are not known are let pass, unless one looks like a known one misspelt: what it says would be lost.
    func expect(_ known: [String]) throws(ObjectProblem) {
        guard origin == .file else { return }
        try checkSpelling(known)
    }

    private func checkSpelling(_ known: [String]) throws(ObjectProblem) {
        for name in names where !known.contains(name) {
            if let meant = Suggestion.nearest(to: name, among: known) {
                throw problem(name, "unknown field; did you mean \(meant)?")
            }
        }
    }

    /// Fields that are not known are refused: where a policy is concerned, what is not understood may be the point.
    func expectOnly(_ known: [String]) throws(ObjectProblem) {
        try checkSpelling(known)
        for name in names where !known.contains(name) {
            throw problem(name, "unknown field; known are \(known.joined(separator: ", "))")
        }
    }

    func has(_ name: String) -> Bool { entry(name) != nil }

    // MARK: Values

    func string(_ name: String) throws(ObjectProblem) -> String? {
        guard let (line, node) = entry(name) else { return nil }
        return try Self.string(node, file: file, line: line, .field(way, name))
    }

    func requiredString(_ name: String) throws(ObjectProblem) -> String {
        guard let value = try string(name), !value.isEmpty else { throw problem(name, "is missing") }
        return value
    }

    func bool(_ name: String) throws(ObjectProblem) -> Bool? {
        guard let (line, node) = entry(name) else { return nil }
        if let value = node.bool { return value }
        throw problem(line: line, name, "expected true or false, found \(Self.describe(node))")
    }

    /// A port number, 1 to 65535.
    func port(_ name: String) throws(ObjectProblem) -> UInt16? {
        guard let (line, node) = entry(name) else { return nil }
        if node.kind == .plain, let port = Self.port(node.scalar) { return port }
        throw problem(line: line, name, "expected a port from 1 to 65535, found \(Self.describe(node))")
    }

    /// A whole number from 0 to 4294967295.
    func count(_ name: String) throws(ObjectProblem) -> UInt32? {
        guard let (line, node) = entry(name) else { return nil }
        if node.kind == .plain, node.scalar.utf8.allSatisfy({ (48...57).contains($0) }), let value = UInt32(node.scalar)
        {
            return value
        }
        throw problem(line: line, name, "expected a whole number from 0, found \(Self.describe(node))")
    }

    /// A port number or the name of a container's port.
    func portOrName(_ name: String) throws(ObjectProblem) -> ServicePort.Target? {
        guard let (line, node) = entry(name) else { return nil }
        if node.kind == .plain || node.kind == .quoted {
            let text = node.scalar
            if node.kind == .quoted, !text.isEmpty { return .name(text) }
            if let port = Self.port(text) { return .number(port) }
            if text.first?.isLetter == true { return .name(text) }
        }
        throw problem(line: line, name, "expected a port from 1 to 65535 or a name, found \(Self.describe(node))")
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
        guard let elements = try elements(name) else { return nil }
        var result: [String] = []
        result.reserveCapacity(elements.count)
        for (index, node) in elements.enumerated() {
            result.append(try Self.string(node, file: file, line: node.line, .element(.field(way, name), index)))
        }
        return result
    }

    /// - Parameter isWanted: Names for which it is false are left out, whatever they hold.
    func stringMap(
        _ name: String, where isWanted: (String) -> Bool = { _ in true }
    ) throws(ObjectProblem) -> [String: String]? {
        guard let fields = try object(name) else { return nil }
        var result: [String: String] = [:]
        for (name, value) in fields.node.members where !value.isNull {
            let key = name.scalar
            guard isWanted(key) else { continue }
            result[key] = try Self.string(value, file: file, line: name.line, .field(fields.way, key))
        }
        return result
    }

    func object(_ name: String) throws(ObjectProblem) -> Fields? {
        guard let (_, node) = entry(name) else { return nil }
        return try Fields(node, file: file, way: .field(way, name), origin: origin)
    }

    func objects(_ name: String) throws(ObjectProblem) -> [Fields]? {
        guard let elements = try elements(name) else { return nil }
        var result: [Fields] = []
        result.reserveCapacity(elements.count)
        for (index, node) in elements.enumerated() {
            result.append(try Fields(node, file: file, way: .element(.field(way, name), index), origin: origin))
        }
        return result
    }

    private func elements(_ name: String) throws(ObjectProblem) -> [DocumentNode]? {
        guard let (line, node) = entry(name) else { return nil }
        guard let elements = node.elements else {
            throw problem(line: line, name, "expected a list, found \(Self.describe(node))")
        }
        return elements
    }

    private static func string(
        _ node: DocumentNode, file: String, line: Int, _ way: @autoclosure () -> Way
    ) throws(ObjectProblem) -> String {
        switch node.kind {
        case .quoted: return node.scalar
        case .plain:
            let text = node.scalar
            guard PlainScalar.isNoString(text) else { return text }
            throw ObjectProblem(
                file: file, line: line, field: way().text,
                message: "expected a string, found \(text.prefix(40)); put it in quotes")
        case .mapping, .list, .alias:
            throw ObjectProblem(
                file: file, line: line, field: way().text, message: "expected a string, found \(describe(node))")
        }
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
