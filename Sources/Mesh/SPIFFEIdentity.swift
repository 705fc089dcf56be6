/// The name a workload proves with its certificate: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
public struct SPIFFEIdentity: Hashable, Sendable {
    public let trustDomain: String
    public let namespace: String
    public let serviceAccount: String

    public init(trustDomain: String, namespace: String, serviceAccount: String) {
        self.trustDomain = trustDomain
        self.namespace = namespace
        self.serviceAccount = serviceAccount
    }

    /// The form AuthorizationPolicy compares with: the identity without `spiffe://`.
    public var principal: String { "\(trustDomain)/ns/\(namespace)/sa/\(serviceAccount)" }
}

extension SPIFFEIdentity: LosslessStringConvertible {
    /// Exactly `spiffe://td/ns/<ns>/sa/<sa>`, every part present, no query, fragment or further part.
    public init?(_ uri: String) {
        guard uri.hasPrefix("spiffe://"), uri.utf8.count <= 2048 else { return nil }
        let parts = uri.dropFirst("spiffe://".count).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[1] == "ns", parts[3] == "sa" else { return nil }
        for part in parts where part.isEmpty || part.contains(where: { "?#%@:".contains($0) }) { return nil }
        self.init(
            trustDomain: String(parts[0]), namespace: String(parts[2]), serviceAccount: String(parts[4]))
    }

    public var description: String { "spiffe://\(principal)" }
}
