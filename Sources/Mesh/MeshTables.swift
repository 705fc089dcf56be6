import HashTreeCollections

/// The indices of a ``MeshState``.
struct MeshTables: Sendable {
    var workloadsByUID: TreeDictionary<String, Workload> = [:]
    var workloadsByAddress: TreeDictionary<NetworkAddress, OneOrMany<Workload>> = [:]
    var workloadsByHostname: TreeDictionary<String, OneOrMany<Workload>> = [:]
    /// Local ones only: by pod name, and by service account.
    var localPods: TreeDictionary<NamespacedName, OneOrMany<Workload>> = [:]
    var localAccounts: TreeDictionary<NamespacedName, TreeDictionary<String, Workload>> = [:]
    var servicesByKey: TreeDictionary<NamespacedHostname, Service> = [:]
    var servicesByAddress: TreeDictionary<NetworkAddress, OneOrMany<Service>> = [:]
    var servicesByBlock: TreeDictionary<NetworkCIDR, OneOrMany<Service>> = [:]
    /// How many blocks there are of each family and length, so that a lookup tries only lengths in use.
    var blockLengths = BlockLengths()
    var servicesByHostname: TreeDictionary<String, OneOrMany<Service>> = [:]
    var endpoints: TreeDictionary<NamespacedHostname, EndpointSet> = [:]
    var policiesByKey: TreeDictionary<String, AuthorizationPolicy> = [:]
    /// Keys of namespace policies under their namespace, of global ones under "", in order.
    var policyKeys: TreeDictionary<String, [String]> = [:]

    /// One reference for all of them.
    ///
    /// Changed only by the one state that holds the only reference, which ``MeshState/tables`` sees to; from the moment
    /// it is shared it does not change any more. That is what makes it sendable.
    final class Shared: @unchecked Sendable {
        var tables: MeshTables
        var revision: UInt64

        init(_ tables: MeshTables, revision: UInt64) {
            self.tables = tables
            self.revision = revision
        }
    }
}
