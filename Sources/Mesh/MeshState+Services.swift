import Addressing

extension MeshState {
    /// The service a client of a namespace means by an address of this proxy's network, or of the given one.
    ///
    /// Of several services with the address, those the client may not see do not count; then one of its own namespace
    /// wins, then a canonical one (the last that came), then the one that came first. Without a service of this very
    /// address, address blocks are tried: own namespace, then the longest prefix, then a canonical one. A client
    /// without a namespace sees every service and prefers none for its namespace.
    public func service(at address: IPAddress, network: String? = nil, from namespace: String?) -> Service? {
        let key = NetworkAddress(network: network ?? settings.network, address: address)
        if let found = tables.servicesByAddress[key], let best = Self.preferred(found, from: namespace) { return best }
        return block(containing: key, from: namespace)
    }

    /// The service a client of a namespace means by a host name, by the same preference.
    public func service(hostname: String, from namespace: String?) -> Service? {
        tables.servicesByHostname[hostname].flatMap { Self.preferred($0, from: namespace) }
    }

    /// All services of a host name, visible or not, in the order in which they came.
    public func services(hostname: String) -> [Service] { tables.servicesByHostname[hostname]?.all ?? [] }

    private static func preferred(_ services: OneOrMany<Service>, from namespace: String?) -> Service? {
        if case .one(let service) = services { return service.isVisible(from: namespace) ? service : nil }
        var best: Service?
        for service in services.all where service.isVisible(from: namespace) {
            if service.namespace == namespace { return service }
            if best == nil || service.canonical { best = service }
        }
        return best
    }

    private func block(containing key: NetworkAddress, from namespace: String?) -> Service? {
        guard !tables.servicesByBlock.isEmpty else { return nil }
        var best: (service: Service, rank: (Int, Int, Int))?
        tables.blockLengths.forEachCandidate(for: key.address) { cidr in
            guard let found = tables.servicesByBlock[NetworkCIDR(network: key.network, cidr: cidr)] else { return }
            for service in found.all where service.isVisible(from: namespace) {
                let rank = (service.namespace == namespace ? 1 : 0, cidr.length, service.canonical ? 1 : 0)
                if best.map({ rank > $0.rank }) ?? true { best = (service, rank) }
            }
        }
        return best?.service
    }
}
