/// The workload that a ztunnel itself is part of.
public struct OwnWorkload: Sendable, Hashable {
    public let namespace: String
    public let name: String
    public let serviceAccount: String

    init(namespace: String, name: String, serviceAccount: String) {
        self.namespace = namespace
        self.name = name
        self.serviceAccount = serviceAccount
    }

    /// Reads `namespace/name/service account`, as `PROXY_WORKLOAD_INFO` is written.
    init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, !parts.contains(where: \.isEmpty) else { return nil }
        self.init(namespace: String(parts[0]), name: String(parts[1]), serviceAccount: String(parts[2]))
    }
}

extension ZtunnelConfiguration {
    /// The one workload that is served, in ztunnel's own network namespace (`PROXY_MODE=dedicated`); `nil` where the
    /// node's pods are.
    public var dedicatedWorkload: OwnWorkload? { isDedicated ? workloadInfo : nil }

    /// Ztunnel's own pod, where it is known: port 15008 is served for it too, so that its metrics can be read through a
    /// tunnel. `nil` for a dedicated one, whose pod is its workload's.
    public var selfProxied: OwnWorkload? {
        guard !isDedicated, !podNamespace.isEmpty, !podName.isEmpty, !serviceAccount.isEmpty else { return nil }
        return OwnWorkload(namespace: podNamespace, name: podName, serviceAccount: serviceAccount)
    }
}
