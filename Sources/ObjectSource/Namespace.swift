/// A namespace: its labels decide who is in the mesh.
public struct Namespace: Hashable, Sendable {
    public var metadata: ObjectMeta

    public init(metadata: ObjectMeta) { self.metadata = metadata }

    public init(_ name: String, labels: [String: String] = [:], annotations: [String: String] = [:]) {
        metadata = ObjectMeta(name: name, namespace: "", labels: labels, annotations: annotations)
    }
}

/// A service account: the name that a pod's identity is made of.
public struct ServiceAccount: Hashable, Sendable {
    public var metadata: ObjectMeta

    public init(metadata: ObjectMeta) { self.metadata = metadata }
}
