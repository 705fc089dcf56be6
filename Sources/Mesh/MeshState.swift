import Addressing
import HashTreeCollections

/// What a proxy knows of itself and looks the mesh up with.
public struct MeshSettings: Hashable, Sendable {
    /// The network this proxy is in.
    public var network: String
    /// Local lookups see only workloads of this node; all of them when it is `nil`.
    public var localNode: String?
    /// What a policy key means that a workload lists and nobody has sent: `skip` follows the field, and leaves the
    /// connection to the other policies; `deny` refuses until the policy is there.
    public var unknownPolicies: UnknownPolicies
    public enum UnknownPolicies: UInt8, Hashable, Sendable { case skip, deny }
    /// Those that count as one, in the principals of policies.
    public var trustDomains: TrustDomains

    public init(
        network: String = "", localNode: String? = nil, unknownPolicies: UnknownPolicies = .skip,
        trustDomains: TrustDomains = TrustDomains(TrustDomains.pointer)
    ) {
        self.network = network
        self.localNode = localNode
        self.unknownPolicies = unknownPolicies
        self.trustDomains = trustDomains
    }
}

/// Everything known about the mesh, as a value: a copy costs O(1), a change O(log n), and a copy never changes.
///
/// Endpoints may precede their service; policies may precede the workloads that list them.
public struct MeshState: Sendable {
    public let settings: MeshSettings
    /// One reference for all indices: a snapshot costs one count up and down, and whether anybody still holds it is
    /// known from that count.
    private var shared: MeshTables.Shared

    public init(settings: MeshSettings = MeshSettings()) {
        self.settings = settings
        shared = MeshTables.Shared(MeshTables(), revision: 0)
    }

    /// The indices; changing them does not change copies of this state.
    var tables: MeshTables {
        _read { yield shared.tables }
        _modify {
            if !isKnownUniquelyReferenced(&shared) {
                shared = MeshTables.Shared(shared.tables, revision: shared.revision)
            }
            shared.revision &+= 1
            yield &shared.tables
        }
    }

    /// Grows with every change: of the states of one ``MeshStore``, two of one revision say the same. What was found out
    /// from one state need not be found out again from another of its revision.
    public var revision: UInt64 { shared.revision }

    /// Whether no copy of this state is left anywhere else.
    mutating func isLastCopy() -> Bool { isKnownUniquelyReferenced(&shared) }
}

// MARK: - Reading

extension MeshState {
    public var workloadCount: Int { tables.workloadsByUID.count }
    public var serviceCount: Int { tables.servicesByKey.count }
    public var policyCount: Int { tables.policiesByKey.count }

    /// In no particular order; O(n).
    public var workloads: [Workload] { Array(tables.workloadsByUID.values) }
    public var services: [Service] { Array(tables.servicesByKey.values) }
    public var policies: [(key: String, policy: AuthorizationPolicy)] {
        tables.policiesByKey.map { (key: $0.key, policy: $0.value) }
    }

    public func workload(uid: String) -> Workload? { tables.workloadsByUID[uid] }

    /// The workload at an address of this proxy's network, or of the given one.
    ///
    /// Of several, a pod wins over what is none, then HBONE over plain TCP, then the one that came first.
    public func workload(at address: IPAddress, network: String? = nil) -> Workload? {
        let key = NetworkAddress(network: network ?? settings.network, address: address)
        guard let found = tables.workloadsByAddress[key] else { return nil }
        guard case .many(let all) = found else { return found.first }
        func rank(_ workload: Workload) -> Int {
            (workload.uid.contains("//Pod/") ? 2 : 0) + (workload.tunnelProtocol == .hbone ? 1 : 0)
        }
        return all.reduce(nil) { best, next in best.map { rank($0) >= rank(next) ? $0 : next } ?? next }
    }

    /// The pod of this node (of any, if the settings name none) with this name and service account.
    public func workload(namespace: String, name: String, serviceAccount: String) -> Workload? {
        tables.localPods[NamespacedName(namespace: namespace, name: name)]?.all.first {
            $0.serviceAccount == serviceAccount
        }
    }

    /// The workloads of this node that run under a service account, ordered by uid.
    public func localWorkloads(namespace: String, serviceAccount: String) -> [Workload] {
        let found = tables.localAccounts[NamespacedName(namespace: namespace, name: serviceAccount)]
        return found.map { $0.values.sorted { $0.uid < $1.uid } } ?? []
    }

    /// A workload that goes by this host name, one of the given namespace first.
    public func workload(hostname: NamespacedHostname) -> Workload? {
        guard let found = tables.workloadsByHostname[hostname.hostname]?.all else { return nil }
        return found.first { $0.namespace == hostname.namespace } ?? found.first
    }

    public func service(_ key: NamespacedHostname) -> Service? { tables.servicesByKey[key] }

    public func policy(_ key: String) -> AuthorizationPolicy? { tables.policiesByKey[key] }

    /// All endpoints of a service, healthy or not, also when the service itself is not known (yet); O(n).
    public func endpoints(of service: NamespacedHostname) -> [Workload] {
        var result: [Workload] = []
        tables.endpoints[service]?.forEach(.allowAll) {
            result.append($0)
            return true
        }
        return result
    }

    /// Whether a workload is an endpoint of a service that exists.
    public func isEndpoint(_ workload: Workload, of service: NamespacedHostname) -> Bool {
        tables.servicesByKey[service] != nil && tables.workloadsByUID[workload.uid]?.services[service] != nil
    }

    /// The services a workload is an endpoint of and that exist, ordered by key.
    public func services(of workload: Workload) -> [Service] {
        workload.services.keys.sorted().compactMap { tables.servicesByKey[$0] }
    }
}
