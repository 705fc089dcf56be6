import Addressing

/// What is fixed while one connection is routed.
struct RouteQuery {
    let source: Workload
    let destination: Endpoint
    let resolved: [String: [IPAddress]]
    let avoiding: Set<String>
}

extension MeshState {
    /// Decides where a connection goes that a pod has opened.
    ///
    /// - Parameters:
    ///   - source: the pod that opened it.
    ///   - sourceAddress: the address it opened it from.
    ///   - destination: where it wanted to go.
    ///   - resolved: addresses of host names, for workloads that have nothing else. A name that is missing ends in
    ///     ``RouteError/Code/needsResolution``, an empty answer in ``RouteError/Code/noAddressResolved``.
    ///   - avoiding: uids of workloads that are not to be chosen while another endpoint can be: endpoints, instances of
    ///     waypoints and of gateways alike. It holds across localities: an endpoint farther away is taken before one to
    ///     avoid, where the service allows it. When nothing else is left it counts for nothing, so it never makes a
    ///     destination unreachable. Whoever tries again after a failure adds ``Route/nextHop``'s uid and compares: the
    ///     same next hop once more means that there is no alternative.
    ///   - random: draws among endpoints and waypoints.
    public func route(
        from source: Workload, sourceAddress: IPAddress, to destination: Endpoint,
        resolved: [String: [IPAddress]] = [:], avoiding: Set<String> = [],
        random: inout some RandomNumberGenerator
    ) throws(RouteError) -> Route {
        let destination = destination.canonical
        let query = RouteQuery(
            source: source, destination: destination, resolved: resolved, avoiding: avoiding)

        // For the waypoint a workload's address goes before a service's; for the rest it is the other way round.
        var addressed: Service?
        if workload(at: destination.address) == nil {
            addressed = service(at: destination.address, from: source.namespace)
        }
        if let addressed, let reference = waypoint(of: addressed, random: &random) {
            return try route(query, addressed, through: reference, random: &random)
        }

        let found: Upstream
        switch upstream(at: destination, network: source.network, query, mode: .standard, random: &random) {
        case .workload(let upstream):
            found = upstream
        case .original:
            return .passthrough(destination)
        case .none:
            guard let addressed, !addressed.isPassthrough else { return .passthrough(destination) }
            throw RouteError(
                .noHealthyUpstream, "no healthy upstream: \(destination)",
                hint: "service \(addressed.key) has no ready endpoint for this port")
        }

        if found.workload.network != source.network {
            guard let service = addressed ?? found.service else {
                throw RouteError(
                    .notServiceAddressed,
                    "workload \(found.workload.uid) is in network \"\(found.workload.network)\" and was not addressed "
                        + "through a service")
            }
            return try route(query, service, acrossNetworksTo: found, random: &random)
        }
        if addressed == nil, let reference = found.workload.waypoint,
            !isWaypoint(reference, source, at: sourceAddress.canonical)
        {
            return try route(query, nil, through: reference, random: &random)
        }
        let address = try pick(found, query, family: destination.address, random: &random)
        let application = Endpoint(address, found.port)
        switch found.workload.tunnelProtocol {
        case .none, .legacyMTLS:
            return .tcp(application, found)
        case .hbone:
            return .hbone(
                HBONERoute(
                    dial: Endpoint(address, MeshPorts.hbone), authority: .address(application),
                    expectedIdentities: identities(found), workload: found.workload, service: found.service,
                    isWaypoint: false))
        }
    }

    // MARK: Waypoints and gateways

    private func route(
        _ query: RouteQuery, _ addressed: Service?, through reference: GatewayAddress,
        random: inout some RandomNumberGenerator
    ) throws(RouteError) -> Route {
        guard let (waypoint, target) = gateway(reference, query, mode: .waypoint, random: &random) else {
            throw RouteError(
                .unknownWaypoint, "unknown waypoint: \(reference)",
                hint: "the waypoint has no ready instance or is not known to the control plane", missing: reference.name
            )
        }
        if waypoint.workload.network != query.source.network {
            guard let addressed else {
                throw RouteError(
                    .notServiceAddressed,
                    "waypoint \(reference) is in network \"\(waypoint.workload.network)\" and the destination was not "
                        + "addressed through a service")
            }
            return try route(query, addressed, acrossNetworksTo: waypoint, random: &random)
        }
        let address = try pick(waypoint, query, family: target, random: &random)
        return .hbone(
            HBONERoute(
                dial: Endpoint(address, waypoint.port), authority: .address(query.destination),
                expectedIdentities: identities(waypoint), workload: waypoint.workload, service: addressed,
                isWaypoint: true))
    }

    private func route(
        _ query: RouteQuery, _ addressed: Service, acrossNetworksTo remote: Upstream,
        random: inout some RandomNumberGenerator
    ) throws(RouteError) -> Route {
        guard let reference = remote.workload.networkGateway else {
            throw RouteError(
                .noNetworkGateway,
                "workload \(remote.workload.uid) is in network \"\(remote.workload.network)\", which has no gateway")
        }
        guard let (gateway, target) = gateway(reference, query, mode: .standard, random: &random) else {
            throw RouteError(
                .unknownNetworkGateway, "unknown network gateway: \(reference)", missing: reference.name)
        }
        let address = try pick(gateway, query, family: target, random: &random)
        return .doubleHBONE(
            DoubleHBONERoute(
                dial: Endpoint(address, gateway.port), gatewayIdentities: identities(gateway),
                gateway: gateway.workload, authority: .host(addressed.hostname, query.destination.port),
                expectedIdentities: remote.service?.subjectIdentities ?? [], workload: remote.workload,
                service: addressed, sourceNetwork: settings.network))
    }

    /// The waypoint a service's traffic goes through: one of the weighted ones by chance, else the only one.
    private func waypoint(of service: Service, random: inout some RandomNumberGenerator) -> GatewayAddress? {
        let total = service.weightedWaypoints.reduce(UInt64(0)) { $0 + UInt64($1.weight) }
        guard total > 0 else { return service.waypoint }
        var point = UInt64.random(in: 0..<total, using: &random)
        for choice in service.weightedWaypoints {
            if point < choice.weight { return choice.destination }
            point -= UInt64(choice.weight)
        }
        return service.waypoint
    }

    /// An instance of a waypoint or gateway, and the address whose family it should be reached by.
    private func gateway(
        _ reference: GatewayAddress, _ query: RouteQuery, mode: ResolutionMode,
        random: inout some RandomNumberGenerator
    ) -> (Upstream, IPAddress)? {
        switch reference.destination {
        case .address(let address):
            let endpoint = Endpoint(address.address, reference.port)
            let found = upstream(
                at: endpoint, network: address.network, query, mode: mode, random: &random)
            guard case .workload(let upstream) = found else { return nil }
            return (upstream, address.address)
        case .hostname(let name):
            if let service = tables.servicesByKey[name] {
                return balance(service, port: reference.port, query, mode: mode, random: &random)
                    .map { ($0, query.destination.address) }
            }
            return workload(hostname: name).map {
                (Upstream(workload: $0, service: nil, port: reference.port), query.destination.address)
            }
        }
    }

    /// Whether the sender is the waypoint itself, by identity and address: then it is not sent there again.
    private func isWaypoint(_ reference: GatewayAddress, _ sender: Workload, at address: IPAddress) -> Bool {
        refers(reference, toWorkloadAt: address, or: sender) {
            $0.identity == sender.identity && $0.addresses.contains(address)
        }
    }

    /// Whether a reference leads to a workload, directly or as an endpoint of a service: one at an address, or a given
    /// one, that has a property as well.
    ///
    /// It is asked of the few workloads at the address whether they are endpoints, and not of the many endpoints whether
    /// one of them is at the address.
    func refers(
        _ reference: GatewayAddress, toWorkloadAt address: IPAddress, or given: Workload,
        where hasProperty: (Workload) -> Bool
    ) -> Bool {
        let service: Service?
        switch reference.destination {
        case .address(let address):
            if let workload = workload(at: address.address, network: address.network) { return hasProperty(workload) }
            service = self.service(at: address.address, network: address.network, from: nil)
        case .hostname(let name):
            service = tables.servicesByKey[name]
            if service == nil, let workload = workload(hostname: name) { return hasProperty(workload) }
        }
        guard let service else { return false }
        func isOne(_ workload: Workload) -> Bool { hasProperty(workload) && isEndpoint(workload, of: service.key) }
        if let known = tables.workloadsByUID[given.uid], isOne(known) { return true }
        let key = NetworkAddress(network: given.network, address: address)
        return tables.workloadsByAddress[key]?.all.contains(where: isOne) ?? false
    }

    // MARK: Upstreams

    private enum Resolution {
        case workload(Upstream)
        /// The service wants connections to go where the client meant them to.
        case original
        case none
    }

    private func upstream(
        at endpoint: Endpoint, network: String, _ query: RouteQuery, mode: ResolutionMode,
        random: inout some RandomNumberGenerator
    ) -> Resolution {
        if let service = service(at: endpoint.address, network: network, from: query.source.namespace) {
            if service.isPassthrough { return .original }
            let chosen = balance(service, port: endpoint.port, query, mode: mode, random: &random)
            return chosen.map(Resolution.workload) ?? .none
        }
        guard let workload = workload(at: endpoint.address, network: network) else { return .none }
        return .workload(Upstream(workload: workload, service: nil, port: endpoint.port))
    }

    /// The address of a workload to connect to: the one asked for, else one that the service allows, of the family asked
    /// for where there is one, else what its host name was resolved to.
    private func pick(
        _ upstream: Upstream, _ query: RouteQuery, family: IPAddress, random: inout some RandomNumberGenerator
    ) throws(RouteError) -> IPAddress {
        let workload = upstream.workload
        if workload.addresses.contains(family) { return family }
        let allowed = workload.addresses.lazy.filter { upstream.service?.ipFamilies.accepts($0) ?? true }
        if let address = allowed.first(where: { $0.family == family.family }) ?? allowed.first { return address }
        guard !workload.hostname.isEmpty else {
            throw RouteError(
                .noValidDestination, "no valid routing destination for workload \(workload.uid)",
                hint: "it has no address, or none of a family that its service allows")
        }
        guard let addresses = query.resolved[workload.hostname] else {
            throw RouteError(
                .needsResolution, "workload \(workload.uid) is known by host name only: \(workload.hostname)",
                hostname: workload.hostname)
        }
        let wanted = addresses.filter { $0.family == family.family }
        guard let address = wanted.randomElement(using: &random) ?? addresses.randomElement(using: &random) else {
            throw RouteError(
                .noAddressResolved, "no ip addresses were resolved for workload \(workload.uid): \(workload.hostname)")
        }
        return address
    }

    private func identities(_ upstream: Upstream) -> [SPIFFEIdentity] {
        let own = upstream.workload.identity
        let named = upstream.service?.subjectIdentities ?? []
        return named.contains(own) ? named : named + [own]
    }
}
