/// Who asks, as far as the answer depends on it.
public struct DNSClient: Hashable, Sendable {
    public var namespace: String
    /// Virtual addresses of other networks are of no use to it.
    public var network: String
    /// The domains its resolver tries behind a short name, in order; without dots at the ends, lower case.
    public var searchDomains: [String]
    public var clusterDomain: String
    /// Whether addresses of IPv6 are answered at all.
    public var ipv6: Bool
    /// Wins among services of one name of which neither is the client's own namespace's nor canonical.
    public var preferredNamespace: String?

    /// - Parameter searchDomains: `nil` for what Kubernetes gives a pod: its namespace's, the services', the cluster's.
    public init(
        namespace: String, network: String = "", searchDomains: [String]? = nil,
        clusterDomain: String = "cluster.local", ipv6: Bool = true, preferredNamespace: String? = nil
    ) {
        self.namespace = namespace
        self.network = network
        self.clusterDomain = clusterDomain
        self.searchDomains =
            searchDomains ?? ["\(namespace).svc.\(clusterDomain)", "svc.\(clusterDomain)", clusterDomain]
        self.ipv6 = ipv6
        self.preferredNamespace = preferredNamespace
    }
}
