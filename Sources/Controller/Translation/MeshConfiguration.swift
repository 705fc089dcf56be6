import Mesh
import ObjectSource

/// What the mapping of objects to the mesh depends on besides the objects.
public struct MeshConfiguration: Hashable, Sendable {
    public var trustDomain = Workload.Defaults.trustDomain
    public var clusterID = Workload.Defaults.clusterID
    /// Service host names end in it.
    public var domainSuffix = "cluster.local"
    /// Policies in it hold for every namespace.
    public var rootNamespace = MeshLabel.rootNamespace
    /// Publish policies that ask for a dry run. Proxies that do not know the field would enforce them.
    public var publishesDryRun = true
    /// A deny rule whose HTTP attributes layer 4 cannot see denies everything else it says (`true`), or cannot fire
    /// (`false`, as in Istio).
    public var strictL7Deny = false

    public init() {}
}

/// A policy that is not, or not wholly, in force at layer 4, and why.
public struct PolicyWarning: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// `namespace/name`
    public let policy: String
    public let message: String

    public init(policy: String, message: String) {
        self.policy = policy
        self.message = message
    }

    public var description: String { "\(policy): \(message)" }

    public static func < (left: PolicyWarning, right: PolicyWarning) -> Bool {
        (left.policy, left.message) < (right.policy, right.message)
    }
}
