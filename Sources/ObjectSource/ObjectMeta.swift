/// What every object carries, as far as it is in use.
public struct ObjectMeta: Hashable, Sendable {
    public var name: String
    /// Empty for a ``Namespace``; `default` where an object says none.
    public var namespace: String
    /// Empty where nobody gave one.
    public var uid: String
    /// The prefix a controller made the name from; empty for a name chosen by hand.
    public var generateName: String
    public var labels: [String: String]
    public var annotations: [String: String]
    public var owners: [OwnerReference]
    /// Which form of what the user wants this is, as the API counts them; 0 where nobody counts. Not kept for pods.
    public var generation: Int64
    /// Seconds since 1970.
    public var creationTimestamp: Int64?
    /// Seconds since 1970; set while the object is on its way out.
    public var deletionTimestamp: Int64?

    public init(
        name: String, namespace: String = "default", uid: String = "", generateName: String = "",
        labels: [String: String] = [:], annotations: [String: String] = [:], owners: [OwnerReference] = [],
        generation: Int64 = 0, creationTimestamp: Int64? = nil, deletionTimestamp: Int64? = nil
    ) {
        self.name = name
        self.namespace = namespace
        self.uid = uid
        self.generateName = generateName
        self.labels = labels
        self.annotations = annotations
        self.owners = owners
        self.generation = generation
        self.creationTimestamp = creationTimestamp
        self.deletionTimestamp = deletionTimestamp
    }

    public var objectName: ObjectName { ObjectName(namespace: namespace, name: name) }
    /// Somebody has asked for its end.
    public var isBeingDeleted: Bool { deletionTimestamp != nil }
}

/// The object another one belongs to.
public struct OwnerReference: Hashable, Sendable {
    public var apiVersion: String
    public var kind: String
    public var name: String
    /// The one owner that manages the object.
    public var isController: Bool

    public init(apiVersion: String, kind: String, name: String, isController: Bool = true) {
        self.apiVersion = apiVersion
        self.kind = kind
        self.name = name
        self.isController = isController
    }
}

/// Labels and annotations that the mesh gives a meaning to.
public enum MeshLabel {
    /// On a namespace or a pod: `ambient` enrols, `none` on a pod keeps it out.
    public static let dataplaneMode = "istio.io/dataplane-mode"
    /// The annotation a node's agent writes once a pod's traffic is captured: ``redirectionEnabled`` or `pending`.
    public static let redirection = "ambient.istio.io/redirection"
    public static let redirectionEnabled = "enabled"
    public static let redirectionPending = "pending"
    /// The annotation that says what keeps a pod's capture from being whole.
    public static let redirectionProblem = "apus.dev/redirection-problem"
    /// The annotation that names connections from before the pod's enrolment, which go past the mesh until they close.
    public static let sparedConnections = "apus.dev/spared-connections"
    /// On a namespace or a pod, `true` or `false`: while it is not certain that the pod's traffic is captured, it has none.
    public static let failClosed = "apus.dev/fail-closed"
    /// The namespace whose policies hold for the whole mesh.
    public static let rootNamespace = "istio-system"
}

extension [String: String] {
    /// Of an object's labels: every label of the selector is among them.
    public func isMatched(by selector: [String: String]) -> Bool {
        selector.allSatisfy { self[$0.key] == $0.value }
    }
}
