/// One step of discovery: a resource that is new or changed, or a name that is gone.
public enum MeshUpdate: Sendable {
    case workload(Workload)
    case service(Service)
    /// Under the name the control plane gave it, `namespace/name`, by which workloads refer to it.
    /// Apart, so that the others, of which there are many, are small.
    indirect case policy(String, AuthorizationPolicy)
    /// A workload's uid, or else `namespace/hostname` of a service; any other name is ignored.
    case remove(String)
    case removePolicy(String)

    var isRemoval: Bool {
        switch self {
        case .remove, .removePolicy: true
        case .workload, .service, .policy: false
        }
    }
}

/// What an update changed, so that only what depends on it needs another look.
public struct MeshChange: Hashable, Sendable {
    /// Uids of workloads added, changed or removed.
    public var workloads: Set<String> = []
    /// Those of them that are on this node, or were; all of them where the settings name no node.
    public var localWorkloads: Set<String> = []
    /// Services added, changed or removed. Endpoints that came or went count as a change of the workload alone.
    public var services: Set<NamespacedHostname> = []
    /// Keys of policies added, changed or removed.
    public var policies: Set<String> = []
    /// Namespaces whose workloads the changed policies apply to, before or after; `""` stands for all.
    public var policyNamespaces: Set<String> = []

    public init() {}

    public var isEmpty: Bool { workloads.isEmpty && services.isEmpty && policies.isEmpty }

    /// Whether there is anything in it that a verdict could depend on.
    public var canConcernAuthorization: Bool { !policies.isEmpty || !workloads.isEmpty }

    /// Whether the verdict on connections to this workload may be another one than before.
    ///
    /// Asked with the workload as it is now; a change of the workload itself counts too.
    public func concernsAuthorization(of workload: Workload) -> Bool {
        if workloads.contains(workload.uid) { return true }
        if policies.isEmpty { return false }
        return policyNamespaces.contains("") || policyNamespaces.contains(workload.namespace)
            || workload.authorizationPolicies.contains(where: policies.contains)
    }

    public mutating func merge(_ other: MeshChange) {
        workloads.formUnion(other.workloads)
        localWorkloads.formUnion(other.localWorkloads)
        services.formUnion(other.services)
        policies.formUnion(other.policies)
        policyNamespaces.formUnion(other.policyNamespaces)
    }
}
