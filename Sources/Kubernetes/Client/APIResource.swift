import ObjectSource

/// A kind of objects as the API's paths have it.
public struct APIResource: Hashable, Sendable, CustomStringConvertible {
    /// Empty for the core group.
    public var group: String
    public var version: String
    /// As in paths: `pods`.
    public var plural: String
    public var kind: String
    public var isNamespaced: Bool

    public init(group: String = "", version: String = "v1", plural: String, kind: String, isNamespaced: Bool = true) {
        self.group = group
        self.version = version
        self.plural = plural
        self.kind = kind
        self.isNamespaced = isNamespaced
    }

    /// As objects say it: `v1`, `apps/v1`.
    public var apiVersion: String { group.isEmpty ? version : "\(group)/\(version)" }
    /// As rights are given: `pods`, `leases.coordination.k8s.io`.
    public var description: String { group.isEmpty ? plural : "\(plural).\(group)" }

    public static let pods = APIResource(plural: "pods", kind: "Pod")
    public static let namespaces = APIResource(plural: "namespaces", kind: "Namespace", isNamespaced: false)
    public static let nodes = APIResource(plural: "nodes", kind: "Node", isNamespaced: false)
    public static let configMaps = APIResource(plural: "configmaps", kind: "ConfigMap")
    public static let secrets = APIResource(plural: "secrets", kind: "Secret")
    public static let events = APIResource(plural: "events", kind: "Event")
    public static let leases = APIResource(group: "coordination.k8s.io", plural: "leases", kind: "Lease")
    public static let tokenReviews = APIResource(
        group: "authentication.k8s.io", plural: "tokenreviews", kind: "TokenReview", isNamespaced: false)

    /// The resource of a kind the mesh reads, in one of its versions; the newest that this program knows unless given.
    public init(_ kind: ObjectKind, apiVersion: String? = nil) {
        let apiVersion = apiVersion ?? kind.apiVersions[0]
        let slash = apiVersion.lastIndex(of: "/")
        self.init(
            group: slash.map { String(apiVersion[..<$0]) } ?? "",
            version: slash.map { String(apiVersion[apiVersion.index(after: $0)...]) } ?? apiVersion,
            plural: Self.plural(kind.rawValue), kind: kind.rawValue, isNamespaced: kind.isNamespaced)
    }

    /// As the API forms it for every kind in use.
    private static func plural(_ kind: String) -> String {
        let word = kind.lowercased()
        if word.hasSuffix("y"), !word.hasSuffix("ay") { return word.dropLast() + "ies" }
        return word.hasSuffix("s") || word.hasSuffix("x") ? word + "es" : word + "s"
    }

    /// The path of an object, or of all of them without a name.
    func path(namespace: String?, name: String? = nil, subresource: String? = nil) -> String {
        var path = group.isEmpty ? "/api/\(version)" : "/apis/\(group)/\(version)"
        if isNamespaced, let namespace { path += "/namespaces/\(KubernetesClient.escaped(namespace))" }
        path += "/\(plural)"
        if let name { path += "/\(KubernetesClient.escaped(name))" }
        if let subresource { path += "/\(subresource)" }
        return path
    }
}
