import NIOHTTP1
import ObjectSource

/// A change to an object, in the forms the API takes.
public enum Patch: Sendable, Hashable {
    /// RFC 6902
    case operations([JSON])
    /// RFC 7386
    case merge(JSON)
    /// Server-side apply: the fields this manager holds from now on. `force` takes them from others.
    case apply(JSON, force: Bool)

    static let operationsType = "application/json-patch+json"

    var body: (type: String, bytes: [UInt8]) {
        switch self {
        case .operations(let list): (Self.operationsType, JSON.list(list).bytes)
        case .merge(let value): ("application/merge-patch+json", value.bytes)
        case .apply(let value, _): ("application/apply-patch+yaml", value.bytes)
        }
    }
}

/// Single objects.
extension KubernetesClient {
    public func get(
        _ resource: APIResource, _ name: String, namespace: String? = nil
    ) async throws(KubernetesError) -> DocumentNode {
        try await send(
            Request(path: resource.path(namespace: namespace, name: name), what: "get \(resource)")
        ).root
    }

    /// - Returns: The object as the server has it now.
    @discardableResult
    public func create(
        _ resource: APIResource, _ object: JSON, namespace: String? = nil
    ) async throws(KubernetesError) -> DocumentNode {
        try await send(
            Request(
                method: .POST, path: resource.path(namespace: namespace),
                query: [("fieldManager", settings.fieldManager)], body: ("application/json", object.bytes),
                what: "create \(resource)")
        ).root
    }

    /// Puts an object in place of the one there is. With a `resourceVersion` in it, only in place of that version;
    /// otherwise the answer is `conflict`.
    @discardableResult
    public func update(
        _ resource: APIResource, _ name: String, _ object: JSON, namespace: String? = nil, subresource: String? = nil
    ) async throws(KubernetesError) -> DocumentNode {
        try await send(
            Request(
                method: .PUT, path: resource.path(namespace: namespace, name: name, subresource: subresource),
                query: [("fieldManager", settings.fieldManager)], body: ("application/json", object.bytes),
                what: Self.words("update", resource, subresource))
        ).root
    }

    /// - Parameter manager: Who writes, where it is not the client's own ``ClientSettings/fieldManager``.
    @discardableResult
    public func patch(
        _ resource: APIResource, _ name: String, _ patch: Patch, namespace: String? = nil,
        subresource: String? = nil, manager: String? = nil
    ) async throws(KubernetesError) -> DocumentNode {
        var query = [(name: "fieldManager", value: manager ?? settings.fieldManager)]
        if case .apply(_, force: true) = patch { query.append(("force", "true")) }
        return try await send(
            Request(
                method: .PATCH, path: resource.path(namespace: namespace, name: name, subresource: subresource),
                query: query, body: patch.body, what: Self.words("patch", resource, subresource))
        ).root
    }

    /// - Parameter uid: Deletes this very object and no later one of its name.
    public func delete(
        _ resource: APIResource, _ name: String, namespace: String? = nil, uid: String? = nil
    ) async throws(KubernetesError) {
        let options: JSON? = uid.map {
            ["apiVersion": "v1", "kind": "DeleteOptions", "preconditions": ["uid": .string($0)]]
        }
        _ = try await send(
            Request(
                method: .DELETE, path: resource.path(namespace: namespace, name: name),
                body: options.map { ("application/json", $0.bytes) }, what: "delete \(resource)"))
    }

    private static func words(_ verb: String, _ resource: APIResource, _ subresource: String?) -> String {
        "\(verb) \(resource)" + (subresource.map { "/\($0)" } ?? "")
    }
}
