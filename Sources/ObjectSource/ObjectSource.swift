/// Where Kubernetes objects come from: a folder of YAML, or a cluster's API.
public protocol ObjectSource: Sendable {
    /// The objects as they are now, consistent among themselves.
    func snapshot() -> ObjectSnapshot

    /// The objects as they are now, then again after every change, until the source is closed.
    ///
    /// A reader that is slower than the changes misses those in between, never the last one.
    func snapshots() -> AsyncStream<ObjectSnapshot>

    /// How far what is known can be relied on.
    var health: ObjectSourceHealth { get }
}

extension ObjectSource {
    /// A folder is at hand or it is an error.
    public var health: ObjectSourceHealth { ObjectSourceHealth() }
}

/// How a source of objects fares.
public struct ObjectSourceHealth: Hashable, Sendable {
    /// All kinds have been read whole at least once.
    public var isSynced: Bool
    /// When it was last heard from, in seconds since 1970; `nil` where that means nothing, or never was.
    public var lastContact: Int64?
    /// Why it does not answer now; `nil` while it does.
    public var problem: String?

    public init(isSynced: Bool = true, lastContact: Int64? = nil, problem: String? = nil) {
        self.isSynced = isSynced
        self.lastContact = lastContact
        self.problem = problem
    }
}

/// A pod as the one who reports on it knows it. With a uid, a report is never taken for a later pod of the same name.
public struct PodReference: Hashable, Sendable {
    public var name: ObjectName
    public var uid: String

    public init(name: ObjectName, uid: String) {
        self.name = name
        self.uid = uid
    }

    public init(_ pod: Pod) {
        name = pod.name
        uid = pod.metadata.uid
    }
}

/// Puts annotations on pods, as a node's agent does with ``MeshLabel/redirection``.
public protocol PodAnnotator: Sendable {
    /// Makes these the annotations that this reporter holds on the pod, in place of all it set before; empty takes
    /// them away. Setting them again is no change. That the pod is gone is no error.
    func annotate(_ pod: PodReference, with annotations: [String: String]) async throws(ObjectSourceError)
}
