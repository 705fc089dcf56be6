import Foundation
import Mesh
import Yams

/// A mesh given as YAML instead of, or besides, a control plane: `LOCAL_XDS_PATH` or `LOCAL_XDS`.
///
/// The shapes are those of the config dump. Unknown fields are refused, since a condition that is misspelt would be no
/// condition.
public struct LocalMesh: Sendable {
    /// As it is to be applied to a store that is empty.
    public let updates: [MeshUpdate]

    /// Larger files are refused.
    static let maximumSize = 64 << 20

    /// Reads what the configuration names; `nil` when it names nothing.
    /// - Throws: ``LocalMeshError``, which names the file and the field.
    public init?(_ configuration: ZtunnelConfiguration) throws(LocalMeshError) {
        switch (configuration.localXDSPath, configuration.localXDS) {
        case (nil, nil): return nil
        case (.some, .some): throw LocalMeshError("LOCAL_XDS_PATH and LOCAL_XDS are both set; one of them is wanted")
        case (nil, let text?): try self.init(yaml: text, from: "LOCAL_XDS")
        case (let path?, nil):
            let data: Data
            do {
                data = try Data(contentsOf: URL(fileURLWithPath: path))
            } catch {
                throw LocalMeshError("LOCAL_XDS_PATH: \(path) cannot be read: \(error)")
            }
            guard data.count <= Self.maximumSize else {
                throw LocalMeshError("LOCAL_XDS_PATH: \(path) has more than \(Self.maximumSize) bytes")
            }
            guard let text = String(data: data, encoding: .utf8) else {
                throw LocalMeshError("LOCAL_XDS_PATH: \(path) is not UTF-8")
            }
            try self.init(yaml: text, from: path)
        }
    }

    /// - Parameter source: what errors call it.
    public init(yaml: String, from source: String) throws(LocalMeshError) {
        let document: Document
        do {
            document = try YAMLDecoder().decode(Document.self, from: yaml)
        } catch let error as DecodingError {
            throw LocalMeshError("\(source): \(Self.text(error))")
        } catch {
            throw LocalMeshError("\(source): \(error)")
        }
        if let text = document.strayEndpoint { throw LocalMeshError("\(source): \(text)") }
        updates =
            document.policies.map { .policy($0.policy.key, $0.policy) } + document.services.map { .service($0.service) }
            + document.workloads.map { .workload($0.workload) }
    }

    private static func text(_ error: DecodingError) -> String {
        let context =
            switch error {
            case .dataCorrupted(let context), .keyNotFound(_, let context), .typeMismatch(_, let context),
                .valueNotFound(_, let context):
                context
            @unknown default: DecodingError.Context(codingPath: [], debugDescription: "\(error)")
            }
        var path = ""
        for key in context.codingPath {
            if let index = key.intValue {
                path += "[\(index)]"
            } else {
                path += (path.isEmpty ? "" : ".") + key.stringValue
            }
        }
        // Of a text that is no YAML the parser's own words say where.
        let detail = context.underlyingError.map { ": \($0)" } ?? ""
        return (path.isEmpty ? "" : "\(path): ") + context.debugDescription + detail
    }
}

extension LocalMesh {
    struct Document: Decodable {
        var workloads: [WorkloadDocument]
        var policies: [PolicyDocument]
        var services: [ServiceDocument]

        enum CodingKeys: String, CodingKey, CaseIterable { case workloads, policies, services }

        init(from decoder: any Decoder) throws {
            let fields = try StrictFields<CodingKeys>(decoder)
            workloads = try fields.value(.workloads, or: [])
            policies = try fields.value(.policies, or: [])
            services = try fields.value(.services, or: [])
        }

        /// Workloads name the services they serve; an endpoint that only the service knows of would be lost.
        var strayEndpoint: String? {
            let members = Dictionary(workloads.map { ($0.uid, $0.services) }, uniquingKeysWith: { first, _ in first })
            for (index, service) in services.enumerated() {
                for uid in service.endpoints.values.map(\.workloadUid).sorted()
                where members[uid]?[service.key.description] == nil {
                    return "services[\(index)].endpoints: no workload \(uid) here lists \(service.key) in its services"
                }
            }
            return nil
        }
    }
}

/// Why a local mesh cannot be read, in words for the operator.
public struct LocalMeshError: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}
