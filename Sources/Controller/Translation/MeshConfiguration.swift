import Mesh
public import ObjectSource

/// What the mapping of objects to the mesh depends on besides the objects.
public struct MeshConfiguration: Hashable, Sendable {
    public var trustDomain = Workload.Defaults.trustDomain
    /// Trust domains that stand for the same mesh: a policy that names an identity of one of them means it in each.
    public var trustDomainAliases: [String] = []
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

    /// Pods with a sidecar are told of as speaking Istio's older mTLS. ztunnels, Istio's and this one, refuse such a
    /// workload; it is for other proxies that read the same resources.
    public var publishesLegacyMTLS = false

    /// Configuration that names another revision is not read.
    public var revision = "default"
    /// Namespaces that one of them matches are the mesh's, beside the root namespace; all are when there is none.
    public var discoverySelectors: [LabelSelector] = []
    /// Who has a waypoint takes connections from nobody else.
    public var allowsWaypointsOnly = false
    /// Who sees the hosts of service entries, by the labels of the entries' namespace. The first that matches counts;
    /// without one they are seen everywhere.
    public var entryVisibility: [VisibilityRule] = []
    /// Which services the clusters of a mesh share, by labels. The first that matches counts; a service that none
    /// matches is its own cluster's alone.
    public var serviceScopes: [IstioMeshConfig.ServiceScope] = []

    /// Who sees a host.
    public enum EntryVisibility: Hashable, Sendable {
        case everywhere
        /// Clients of its own namespace.
        case namespace
        case none
    }

    public struct VisibilityRule: Hashable, Sendable {
        public var namespaces: LabelSelector
        public var visibility: EntryVisibility

        public init(namespaces: LabelSelector, visibility: EntryVisibility) {
            self.namespaces = namespaces
            self.visibility = visibility
        }
    }

    public init() {}

    /// Whether objects of a namespace are read at all.
    func isDiscovered(_ namespace: String, in namespaces: [String: Namespace]) -> Bool {
        guard !discoverySelectors.isEmpty, namespace != rootNamespace else { return true }
        let labels = namespaces[namespace]?.metadata.labels ?? [:]
        return discoverySelectors.contains { $0.matches(labels) }
    }

    func visibility(ofEntriesIn namespace: [String: String]) -> EntryVisibility {
        entryVisibility.first { $0.namespaces.matches(namespace) }?.visibility ?? .everywhere
    }
}
