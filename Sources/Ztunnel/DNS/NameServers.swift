import Addressing
import DNS
import Handover
import LinuxNetwork
import Mesh

/// Which of a pod's name servers may be asked.
enum NameServers {
    /// Leaves out what would come back to us or to the pod. A resolver inside of the pod, to which the pod's resolv.conf
    /// points, asks through us: sending its questions to itself would go round for ever.
    static func allowed(_ servers: [Endpoint], client: IPAddress, _ workload: Workload) -> [Endpoint] {
        servers.filter { server in
            let address = server.address.canonical
            return !address.isLoopback && !address.isUnspecified && !isMulticast(address) && address != client.canonical
                && !workload.addresses.contains(address) && server.port != ZtunnelPort.dns
        }
    }

    private static func isMulticast(_ address: IPAddress) -> Bool {
        address.isV4 ? address.v4Value >> 28 >= 14 : address.high >> 56 == 0xff
    }
}

extension ResolverConfiguration {
    /// What the keeper tells of a pod; what is no address or no name in it does not count.
    init(_ resolver: PodResolver) {
        self.init(searchDomains: Self.domains(resolver.searchDomains))
        for server in resolver.servers { if let address = IPAddress(server) { add(address) } }
        set("timeout:\(resolver.timeout)")
        set("attempts:\(resolver.attempts)")
    }
}
