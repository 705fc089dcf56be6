import Foundation
import Yams

/// The folder a user writes objects to, and edits of it as a user would make them.
public struct SourceFolder: Sendable {
    public let path: String

    public init(path: String) { self.path = path }

    /// Puts a file in or replaces it.
    public func put(_ name: String, _ yaml: String) throws { try Files.replace("\(path)/\(name)", with: yaml) }

    /// Takes a file out. That it is not there is no error.
    public func remove(_ name: String) throws { try Files.remove("\(path)/\(name)") }

    /// Copies the YAML files of another folder in.
    public func copy(from folder: String) throws {
        let names = YAMLDocuments.files(in: folder)
        guard !names.isEmpty else { throw LocalClusterError(.manifest, "no YAML files in \(folder)") }
        for name in names { try put(name, Files.text("\(folder)/\(name)") ?? "") }
    }

    /// Sets a label of a namespace, or takes it off with `nil`, as `kubectl label` does.
    /// - Throws: ``LocalClusterError`` with code `manifest` when no file has that namespace.
    public func label(namespace: String, _ key: String, _ value: String?) throws {
        for name in YAMLDocuments.files(in: path) {
            var documents = try YAMLDocuments.read(Files.text("\(path)/\(name)") ?? "")
            let index = documents.firstIndex {
                $0["kind"]?.string == "Namespace" && $0["metadata"]?["name"]?.string == namespace
            }
            guard let index else { continue }
            var metadata = documents[index]["metadata"] ?? Node.mapping([:])
            var labels = metadata["labels"] ?? Node.mapping([:])
            labels.mapping?[Node(key)] = value.map { Node($0) }
            metadata["labels"] = labels
            documents[index]["metadata"] = metadata
            try put(name, try Yams.serialize(nodes: documents))
            return
        }
        throw LocalClusterError(.manifest, "no namespace \(namespace) in \(path)")
    }

    /// Enrols every pod of a namespace.
    public func enrol(namespace: String) throws {
        try label(namespace: namespace, "istio.io/dataplane-mode", "ambient")
    }

    /// Ends the enrolment by the namespace's label.
    public func unenrol(namespace: String) throws { try label(namespace: namespace, "istio.io/dataplane-mode", nil) }
}
