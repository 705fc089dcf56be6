import Addressing
import Yams

/// An object and where it was found.
struct LocatedObject: Sendable, Equatable {
    var object: KubernetesObject
    var line: Int
}

/// Reads the documents of one file.
enum DocumentReader {
    static let maximumFileSize = 1 << 20
    static let maximumDocuments = 10_000

    /// The objects of a text. Documents of other kinds are passed over.
    ///
    /// All documents are read even when one is wrong, so that every problem is named at once.
    static func read(_ text: [UInt8], file: String) -> Result<[LocatedObject], Problems> {
        guard text.count <= maximumFileSize else {
            return .failure(Problems(file, 0, "is larger than \(maximumFileSize) bytes"))
        }
        if text.contains(0) { return .failure(Problems(file, 0, "is no text")) }
        guard let string = String(validating: text, as: UTF8.self) else {
            return .failure(Problems(file, 0, "is not in UTF-8"))
        }
        do {
            try YAMLGuard.check(text)
        } catch {
            return .failure(Problems(file, error.line, error.message))
        }
        var objects: [LocatedObject] = []
        var problems: [ObjectProblem] = []
        do {
            let parser = try Parser(yaml: string, encoding: .utf8)
            var count = 0
            while let node = try parser.nextRoot() {
                count += 1
                guard count <= maximumDocuments else {
                    return .failure(Problems(file, 0, "holds more than \(maximumDocuments) documents"))
                }
                do {
                    try read(DocumentTree(node).root, file: file, path: "", into: &objects)
                } catch {
                    problems.append(error)
                }
            }
        } catch let error as YamlError {
            problems.append(ObjectProblem(error, file: file))
        } catch {
            problems.append(ObjectProblem(file: file, message: "cannot be read: \(error)"))
        }
        problems += duplicates(objects, file)
        return problems.isEmpty ? .success(objects) : .failure(Problems(problems))
    }

    struct Problems: Error, Equatable {
        var list: [ObjectProblem]

        init(_ list: [ObjectProblem]) { self.list = list }
        init(_ file: String, _ line: Int, _ message: String) {
            list = [ObjectProblem(file: file, line: line, message: message)]
        }
    }

    private static func duplicates(_ objects: [LocatedObject], _ file: String) -> [ObjectProblem] {
        var first: [ObjectKey: Int] = [:]
        var problems: [ObjectProblem] = []
        for located in objects {
            let key = located.object.key
            if let line = first[key] {
                problems.append(
                    ObjectProblem(file: file, line: located.line, message: "\(key) is defined in line \(line) already"))
            } else {
                first[key] = located.line
            }
        }
        return problems
    }

    private static func read(
        _ node: DocumentNode, file: String, path: String, into objects: inout [LocatedObject]
    ) throws(ObjectProblem) {
        // A document that holds nothing but comments.
        if node.kind == .plain || node.kind == .quoted, node.scalar.isEmpty { return }
        let document = try Fields(node, file: file, path: path)
        let apiVersion = try document.requiredString("apiVersion")
        let kindName = try document.requiredString("kind")
        if kindName == "List", apiVersion == "v1" {
            guard path.isEmpty else { throw document.problem("kind", "a list inside a list") }
            guard let items = node["items"]?.elements else {
                throw document.problem("items", "expected a list")
            }
            for (index, item) in items.enumerated() {
                try read(item, file: file, path: "items[\(index)]", into: &objects)
            }
            guard objects.count <= maximumDocuments else {
                throw document.problem("items", "holds more than \(maximumDocuments) objects")
            }
            return
        }
        guard let kind = try kind(kindName, apiVersion, document) else { return }
        objects.append(LocatedObject(object: try KubernetesObject(kind, document), line: document.line))
    }

    /// `nil` for objects of other kinds. One that is a known kind misspelt is a problem.
    private static func kind(
        _ name: String, _ apiVersion: String, _ document: Fields
    ) throws(ObjectProblem) -> ObjectKind? {
        func group(_ version: String) -> Substring {
            version.lastIndex(of: "/").map { version[..<$0] } ?? ""
        }
        if let kind = ObjectKind(rawValue: name) {
            if kind.apiVersions.contains(apiVersion) { return kind }
            if kind.apiVersions.contains(where: { group($0) == group(apiVersion) }) {
                let known = kind.apiVersions.joined(separator: " or ")
                throw document.problem("apiVersion", "\(apiVersion) of \(name) is unknown; use \(known)")
            }
            if let meant = Suggestion.nearest(to: apiVersion, among: kind.apiVersions) {
                throw document.problem("apiVersion", "unknown for \(name); did you mean \(meant)?")
            }
            return nil
        }
        let known = ObjectKind.allCases.filter { $0.apiVersions.contains { group($0) == group(apiVersion) } }
        if let meant = Suggestion.nearest(to: name, among: known.map(\.rawValue)) {
            throw document.problem("kind", "\"\(name)\" is unknown; did you mean \(meant)?")
        }
        if group(apiVersion) == "security.istio.io", name != "RequestAuthentication" {
            throw document.problem("kind", "\"\(name)\" is unknown in \(apiVersion)")
        }
        return nil
    }
}

extension ObjectProblem {
    init(_ error: YamlError, file: String) {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            self.init(file: file, line: mark.line, message: "is no YAML: \(problem)")
        case .duplicatedKeysInMapping(let duplicates, let context):
            self.init(
                file: file, line: context.mark.line,
                message: "the field \(duplicates.joined(separator: ", ")) is there twice")
        case .reader(let problem, _, _, _):
            self.init(file: file, message: "is no YAML: \(problem)")
        default:
            self.init(file: file, message: "is no YAML")
        }
    }
}
