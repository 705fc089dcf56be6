import Foundation
import Yams

/// What a local cluster needs of a Pod object: where it belongs and what runs in it.
public struct PodManifest: Sendable, Hashable {
    public var namespace: String
    public var name: String
    /// Empty where the object has none; the cluster then gives one, as the API server would.
    public var uid: String
    /// The node it asks for; empty for any.
    public var node: String
    /// Command and arguments of the first container.
    public var command: [String]
    public var environment: [String: String]

    public init(
        namespace: String, name: String, uid: String = "", node: String = "", command: [String],
        environment: [String: String] = [:]
    ) {
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.node = node
        self.command = command
        self.environment = environment
    }

    /// `namespace/name`.
    public var key: String { "\(namespace)/\(name)" }

    /// Every Pod in the YAML files of a folder, in the order of files and documents.
    public static func all(in folder: String) throws -> [PodManifest] {
        try YAMLDocuments.files(in: folder).flatMap { name in
            do { return try all(yaml: Files.text("\(folder)/\(name)") ?? "") } catch {
                throw LocalClusterError(.manifest, "\(folder)/\(name) cannot be read", cause: error)
            }
        }
    }

    /// Every Pod among the documents of a YAML text; objects of other kinds are passed over.
    public static func all(yaml: String) throws -> [PodManifest] {
        try YAMLDocuments.read(yaml).compactMap { node in
            guard node["kind"]?.string == "Pod" else { return nil }
            let object = try YAMLDecoder().decode(Object.self, from: node)
            guard let container = object.spec.containers.first else {
                throw LocalClusterError(.manifest, "pod \(object.metadata.name) has no container")
            }
            return PodManifest(
                namespace: object.metadata.namespace ?? "default", name: object.metadata.name,
                uid: object.metadata.uid ?? "", node: object.spec.nodeName ?? "",
                command: (container.command ?? []) + (container.args ?? []),
                environment: Dictionary(
                    (container.env ?? []).map { ($0.name, $0.value ?? "") }, uniquingKeysWith: { $1 }))
        }
    }

    private struct Object: Decodable {
        struct Metadata: Decodable {
            let name: String
            let namespace: String?
            let uid: String?
        }
        struct Container: Decodable {
            struct Variable: Decodable {
                let name: String
                let value: String?
            }
            let command: [String]?
            let args: [String]?
            let env: [Variable]?
        }
        struct Spec: Decodable {
            let nodeName: String?
            let containers: [Container]
        }
        let metadata: Metadata
        let spec: Spec
    }
}
