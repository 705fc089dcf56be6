import Addressing
import DNS
import Handover
import ObjectSource

/// What kubelet will write into a pod's resolv.conf, for the time until it can be read.
struct PodResolverPolicy: Sendable {
    /// kubelet's `clusterDNS`; without it every pod gets the node's servers, as from kubelet.
    var clusterServers: [IPAddress]
    var clusterDomain: String

    /// - Parameter node: the node's own resolv.conf.
    func resolver(for pod: Pod, node: ResolverConfiguration) -> ResolverConfiguration {
        let spec = pod.spec
        var result: ResolverConfiguration
        switch spec.dnsPolicy {
        case .none: result = ResolverConfiguration()
        case .default: result = node
        case .clusterFirst where spec.hostNetwork: result = node
        case .clusterFirst, .clusterFirstWithHostNet:
            result = node
            guard !clusterServers.isEmpty else { break }
            result = ResolverConfiguration()
            for server in clusterServers { result.add(server) }
            let namespace = pod.metadata.namespace
            result.searchDomains = ResolverConfiguration.domains(
                ["\(namespace).svc.\(clusterDomain)", "svc.\(clusterDomain)", clusterDomain] + node.searchDomains)
        }
        guard let own = spec.dnsConfig else { return result }
        for server in own.nameservers { if let address = IPAddress(server) { result.add(address) } }
        result.searchDomains = ResolverConfiguration.domains(result.searchDomains + own.searches)
        for option in own.options { result.set(option) }
        return result
    }
}

extension PodResolver {
    init(_ configuration: ResolverConfiguration) {
        self.init(
            servers: configuration.servers.map(\.description), searchDomains: configuration.searchDomains,
            timeout: UInt32(configuration.timeout), attempts: UInt32(configuration.attempts))
    }
}
