import Addressing
import Mesh
import ObjectSource

/// Service entries as services, and their endpoints as workloads.
struct ServiceEntryTranslation {
    private let surroundings: Surroundings

    init(_ surroundings: Surroundings) { self.surroundings = surroundings }

    // MARK: Services

    /// One for each host that the entry gives its meaning.
    func services(_ entry: ServiceEntry) -> [Mesh.Service] {
        let visibility = surroundings.hosts.visibility(of: entry)
        let namespace = surroundings.objects.namespaces[entry.metadata.namespace]
        let attachment = surroundings.waypoints.attachment(
            of: entry.metadata, as: .service, ownNamespaceOnly: visibility == .namespace)
        return surroundings.hosts.hosts(of: entry).map { host in
            let key = Memberships.key(entry, host)
            let blocks = blocks(entry, host)
            return Mesh.Service(
                name: entry.metadata.name, namespace: key.namespace, hostname: host,
                addresses: blocks.filter(\.isSingle).map {
                    NetworkAddress(network: surroundings.network, address: $0.base)
                },
                blocks: blocks.filter { !$0.isSingle }.map { NetworkCIDR(network: surroundings.network, cidr: $0) },
                ports: entry.ports.map { port in
                    .init(
                        port.number, target: port.target ?? port.number,
                        appProtocol: ServiceTranslation.appProtocol(
                            ServicePort(port: port.number, appProtocol: port.protocolName)))
                },
                subjectAltNames: entry.subjectAltNames, waypoint: attachment.waypoint?.address,
                weightedWaypoints: attachment.weighted,
                loadBalancing: entry.resolution == .none
                    ? LoadBalancing(mode: .passthrough, healthPolicy: .allowAll)
                    : ServiceTranslation.loadBalancing(
                        wish: ServiceTranslation.distribution(entry.metadata, namespace), health: .onlyHealthy),
                canonical: surroundings.hosts.isCanonical(key),
                ingressUseWaypoint: surroundings.waypoints.takesIngress(entry.metadata),
                visibility: visibility == .namespace ? .namespace : .everywhere)
        }
    }

    /// What the user wrote; else what was chosen for the host, where a client's own choice does not count anyway.
    private func blocks(_ entry: ServiceEntry, _ host: String) -> [CIDR] {
        let written = entry.addresses.compactMap { CIDR($0) }
        guard written.isEmpty, entry.resolution != .none else { return written }
        guard !host.hasPrefix("*") || entry.resolution == .dynamicDNS else { return [] }
        return entry.allocated.filter { $0.host.isEmpty || $0.host == host }.compactMap { CIDR($0.value) }
    }

    // MARK: Workloads

    /// Endpoints written in the entry, or one for each host whose name says where it is.
    func workloads(_ entry: ServiceEntry, _ workloads: WorkloadTranslation) -> [Workload] {
        let hosts = surroundings.hosts.hosts(of: entry)
        guard !hosts.isEmpty else { return [] }
        if !entry.endpoints.isEmpty {
            return entry.endpoints.compactMap { endpoint in
                let ports = Memberships.ports(entry, endpoint)
                let services = Dictionary(uniqueKeysWithValues: hosts.map { (Memberships.key(entry, $0), ports) })
                return workloads.workload(endpoint, of: entry, services: services)
            }
        }
        guard entry.selector.isEmpty, entry.resolution.asksDNS else { return [] }
        return hosts.compactMap { host in
            let endpoint = WorkloadEntrySpec(address: host)
            return workloads.workload(
                endpoint, of: entry, services: [Memberships.key(entry, host): Memberships.ports(entry, endpoint)])
        }
    }
}

extension ServiceEntry.Resolution {
    fileprivate var asksDNS: Bool {
        switch self {
        case .none, .static: false
        case .dns, .dnsRoundRobin, .dynamicDNS: true
        }
    }
}

extension CIDR {
    fileprivate var isSingle: Bool { length == (base.isV4 ? 32 : 128) }
}
