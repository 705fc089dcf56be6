import Foundation
import Identity
import Kubernetes
import ObjectSource

/// Where the mesh's authority stands in a cluster: in a folder, in a user's Secret, or in one of its own.
struct AuthorityStore: Sendable {
    /// A user's authority, in Istio's form.
    static let givenName = "cacerts"
    /// The one that is made where there is no other.
    static let ownName = "istio-ca-secret"
    /// On the own Secret, set by a user: a new root is to be made, whatever life the present one has left.
    static let rotateAnnotation = "apus.dev/rotate-root"
    static let type = "istio.io/ca-root"

    enum Found: Sendable {
        case given(AuthorityMaterial)
        case own(AuthorityRecord, version: String, isRotationWanted: Bool)
        /// There is none.
        case nothing
    }

    let client: KubernetesClient
    let namespace: String
    /// A folder with a user's authority, where one is mounted.
    let folder: String?
    let trustDomain: String

    /// - Throws: ``IdentityError`` when the authority that is there cannot be used: another one never takes its place. Or
    ///   `KubernetesError`.
    func find(now: Date) async throws -> Found {
        if let folder { return .given(try Self.material(in: folder, now)) }
        if let parts = try await secret(Self.givenName)?.parts {
            return .given(try Self.material(parts, "Secret \(namespace)/\(Self.givenName)", now))
        }
        guard let found = try await secret(Self.ownName) else { return .nothing }
        let record = try AuthorityRecord(
            parts: found.parts, trustDomain: trustDomain, name: "Secret \(namespace)/\(Self.ownName)", now: now)
        return .own(record, version: found.version, isRotationWanted: found.isRotationWanted)
    }

    static func material(in folder: String, _ now: Date) throws(IdentityError) -> AuthorityMaterial {
        var parts: [String: String] = [:]
        for name in ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"] {
            let path = "\(folder)/\(name)"
            // The chain may be left out.
            if name == "cert-chain.pem", !FileManager.default.fileExists(atPath: path) { continue }
            parts[name] = try MountedFile.read(path)
        }
        return try material(parts, folder, now)
    }

    private static func material(
        _ parts: [String: String], _ name: String, _ now: Date
    ) throws(IdentityError) -> AuthorityMaterial {
        func part(_ key: String) throws(IdentityError) -> String {
            guard let text = parts[key] else {
                throw IdentityError(
                    .incompleteAuthority, "\(name) has no \(key)",
                    hint:
                        "it needs ca-cert.pem, ca-key.pem, root-cert.pem and, with authorities between, cert-chain.pem")
            }
            return text
        }
        return try AuthorityMaterial(
            certificatePEM: try part("ca-cert.pem"), keyPEM: try part("ca-key.pem"),
            chainPEM: parts["cert-chain.pem"] ?? "", rootsPEM: try part("root-cert.pem"), name: name, now: now)
    }

    private func secret(
        _ name: String
    ) async throws -> (parts: [String: String], version: String, isRotationWanted: Bool)? {
        let node: DocumentNode
        do throws(KubernetesError) {
            node = try await client.get(.secrets, name, namespace: namespace)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        var parts: [String: String] = [:]
        for field in node["data"]?.fields ?? [] {
            guard let text = field.value.string, let data = Data(base64Encoded: text) else {
                throw IdentityError(.fileMalformed, "\(field.name) of Secret \(namespace)/\(name) is not in base64")
            }
            parts[field.name] = String(decoding: data, as: UTF8.self)
        }
        let isWanted = node["metadata"]?["annotations"]?[Self.rotateAnnotation]?.string.map { !$0.isEmpty } ?? false
        return (parts, node.resourceVersion, isWanted)
    }

    /// Keeps a record in the own Secret.
    ///
    /// - Parameter version: Of the Secret that it takes the place of; `nil` to make one.
    /// - Throws: `KubernetesError` `conflict` when somebody was faster: what they wrote counts.
    func keep(_ record: AuthorityRecord, over version: String?) async throws(KubernetesError) {
        var metadata: [String: JSON] = ["name": .string(Self.ownName), "namespace": .string(namespace)]
        if let version { metadata["resourceVersion"] = .string(version) }
        let data = record.parts.mapValues { JSON.string(Data($0.utf8).base64EncodedString()) }
        let object: JSON = [
            "apiVersion": "v1", "kind": "Secret", "type": .string(Self.type), "metadata": .object(metadata),
            "data": .object(data),
        ]
        if version == nil {
            try await client.create(.secrets, object, namespace: namespace)
        } else {
            try await client.update(.secrets, Self.ownName, object, namespace: namespace)
        }
    }
}
