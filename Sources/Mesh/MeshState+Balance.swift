import Addressing

/// How strict a lookup is about ports: clients must use a port of the service, waypoints are asked for any.
enum ResolutionMode { case standard, waypoint }

extension MeshState {
    /// Chooses an endpoint of a service for a client and the port it serves on; `nil` when there is none to use.
    func balance(
        _ service: Service, port: UInt16, _ query: RouteQuery, mode: ResolutionMode,
        random: inout some RandomNumberGenerator
    ) -> Upstream? {
        let source = query.source
        let servicePort = service.targetPort(of: port)
        if mode == .standard, servicePort == nil { return nil }
        let target: (Workload) -> UInt16? = { workload in
            guard isReachable(workload, from: source),
                mode == .standard || servicePort != nil || workload.applicationTunnel != nil
            else { return nil }
            if let own = workload.services[service.key]?[port] { return own }
            if let servicePort, servicePort > 0 { return servicePort }
            // The proxy in front of the application takes everything on one port and is told which one was meant.
            return mode == .waypoint && workload.applicationTunnel?.port != nil ? port : nil
        }
        guard let endpoints = tables.endpoints[service.key] else { return nil }
        var chosen: Workload?
        if !query.avoiding.isEmpty {
            chosen = choose(endpoints, service, source: source, random: &random) {
                !query.avoiding.contains($0.uid) && target($0) != nil
            }
        }
        if chosen == nil {
            chosen = choose(endpoints, service, source: source, random: &random) { target($0) != nil }
        }
        guard let workload = chosen, let port = target(workload) else { return nil }
        return Upstream(workload: workload, service: service, port: port)
    }

    private func isReachable(_ workload: Workload, from source: Workload) -> Bool {
        !workload.addresses.isEmpty || !workload.hostname.isEmpty
            || (workload.network != source.network && workload.networkGateway != nil)
    }

    private func choose(
        _ endpoints: EndpointSet, _ service: Service, source: Workload,
        random: inout some RandomNumberGenerator, where isUsable: (Workload) -> Bool
    ) -> Workload? {
        let health = service.loadBalancing?.healthPolicy ?? .onlyHealthy
        guard let rule = service.loadBalancing, rule.mode == .strict || rule.mode == .failover else {
            let total = endpoints.weight(health)
            guard total > 0 else { return nil }
            for _ in 0..<Self.draws {
                if let drawn = endpoints.at(.random(in: 0..<total, using: &random)), isUsable(drawn) { return drawn }
            }
            return search(endpoints.spans(health, node: nil) { _, _ in 0 }, random: &random, where: isUsable)
        }
        let node = rule.preferences.contains(.node) ? source.node : nil
        let spans = endpoints.spans(health, node: node) { Self.rank($0, onNode: $1, for: source, by: rule) }
            .sorted { $0.rank > $1.rank }
        var rest = spans[...]
        while let best = rest.first?.rank {
            let nearest = rest.prefix { $0.rank == best }
            if let drawn = draw(nearest, random: &random, where: isUsable) { return drawn }
            rest = rest.dropFirst(nearest.count)
        }
        return nil
    }

    /// Nearly always every endpoint is usable, so a few draws find one without looking at all of them; drawing again
    /// after an unusable one leaves the odds among the others as they are.
    private static let draws = 4

    private func draw(
        _ spans: ArraySlice<EndpointSet.Span>, random: inout some RandomNumberGenerator,
        where isUsable: (Workload) -> Bool
    ) -> Workload? {
        let total = spans.reduce(0) { $0 + $1.weight }
        guard total > 0 else { return nil }
        for _ in 0..<Self.draws {
            var point = UInt64.random(in: 0..<total, using: &random)
            for span in spans {
                if point < span.weight {
                    if let drawn = span.tree.at(span.points.lowerBound + point), isUsable(drawn) { return drawn }
                    break
                }
                point -= span.weight
            }
        }
        return search(spans, random: &random, where: isUsable)
    }

    /// Looks at every endpoint, and draws by capacity among the usable ones.
    private func search(
        _ spans: some Sequence<EndpointSet.Span>, random: inout some RandomNumberGenerator,
        where isUsable: (Workload) -> Bool
    ) -> Workload? {
        var chosen: Workload?
        var total: UInt64 = 0
        for span in spans {
            // Each takes the place of the one before with the odds of its share of what was seen.
            span.forEach { workload in
                guard isUsable(workload) else { return }
                total += UInt64(workload.capacity)
                if UInt64.random(in: 0..<total, using: &random) < workload.capacity { chosen = workload }
            }
        }
        return chosen
    }

    /// How near an endpoint is to the client: the number of preferences it matches before the first it does not.
    ///
    /// A network that comes first outweighs all that follow, and when it differs the others still count: among the
    /// endpoints of other networks the nearest is wanted too.
    ///
    /// - Parameter onNode: Whether the endpoint is on the client's node; all else is as with any other endpoint of the
    ///   same place.
    static func rank(
        _ endpoint: Workload, onNode: Bool, for source: Workload, by rule: LoadBalancing
    ) -> Int? {
        var rank = 0
        var matched = 0
        for (index, scope) in rule.preferences.enumerated() {
            let leadingNetwork = index == 0 && scope == .network
            if scope == .node ? onNode : matches(scope, endpoint, source) {
                matched += 1
                rank += leadingNetwork ? rule.preferences.count : 1
            } else if !leadingNetwork {
                break
            }
        }
        return rule.mode == .strict && matched < rule.preferences.count ? nil : rank
    }

    private static func matches(_ scope: LoadBalancing.Scope, _ endpoint: Workload, _ source: Workload) -> Bool {
        switch scope {
        case .region: endpoint.locality.region == source.locality.region
        case .zone: endpoint.locality.zone == source.locality.zone
        case .subzone: endpoint.locality.subzone == source.locality.subzone
        case .node: endpoint.node == source.node
        case .cluster: endpoint.clusterID == source.clusterID
        case .network: endpoint.network == source.network
        }
    }
}
