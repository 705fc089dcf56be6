import HashTreeCollections

/// The indices of a ``MeshState``.
///
/// Changed only by the one state that holds the only reference, which ``MeshState/tables`` sees to; from the moment it
/// is shared it does not change any more. That is what makes it sendable.
final class MeshTables: @unchecked Sendable {
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

    init() {}

    init(copy other: MeshTables) {
        workloadsByUID = other.workloadsByUID
        workloadsByAddress = other.workloadsByAddress
        workloadsByHostname = other.workloadsByHostname
        localPods = other.localPods
        localAccounts = other.localAccounts
        servicesByKey = other.servicesByKey
        servicesByAddress = other.servicesByAddress
        servicesByBlock = other.servicesByBlock
        blockLengths = other.blockLengths
        servicesByHostname = other.servicesByHostname
        endpoints = other.endpoints
        policiesByKey = other.policiesByKey
        policyKeys = other.policyKeys
    }
}
