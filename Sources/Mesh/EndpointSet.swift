/// The endpoints of one service, by where they are: a persistent value.
///
/// A copy is free. A change and a choice take O(log n) and as much again for each place, which is a network, a cluster
/// and a locality; there are few of those. Unhealthy endpoints are kept apart, so that choosing among the healthy ones
/// does not pass over them.
struct EndpointSet: Sendable {
    private struct Group: Sendable {
        /// Of one of its endpoints, perhaps of one that has left: all are in the same place.
        let traits: WorkloadTraits
        var healthy = EndpointTree()
        var unhealthy = EndpointTree()

        /// Any of them.
        var member: Workload? { healthy.root?.first ?? unhealthy.root?.first }
    }

    /// A part of a tree, as points of its weight.
    struct Span: Sendable {
        let tree: EndpointTree
        let points: Range<UInt64>
        /// How near it is to the client; the highest is the nearest.
        let rank: Int
    }

    private var groups: [Group] = []

    var isEmpty: Bool { groups.isEmpty }
    var count: Int { groups.reduce(0) { $0 + $1.healthy.count + $1.unhealthy.count } }

    mutating func insert(_ workload: Workload) {
        let index = index(of: workload) ?? groups.count
        if index == groups.count { groups.append(Group(traits: workload.traits)) }
        switch workload.status {
        case .healthy: groups[index].healthy.insert(workload)
        case .unhealthy: groups[index].unhealthy.insert(workload)
        }
    }

    /// Removes a workload that was inserted as it is here.
    mutating func remove(_ workload: Workload) {
        guard let index = index(of: workload) else { return }
        groups[index].healthy.remove(workload)
        groups[index].unhealthy.remove(workload)
        if groups[index].member == nil { groups.remove(at: index) }
    }

    private func index(of workload: Workload) -> Int? {
        groups.firstIndex { Self.arePlacedAlike($0.traits, workload.traits) }
    }

    private static func arePlacedAlike(_ left: WorkloadTraits, _ right: WorkloadTraits) -> Bool {
        left === right
            || left.locality == right.locality && left.clusterID == right.clusterID && left.network == right.network
    }

    /// Calls the body for each endpoint the health policy admits, until it returns false.
    func forEach(_ health: LoadBalancing.HealthPolicy, _ body: (Workload) -> Bool) {
        for group in groups {
            guard group.healthy.forEach(body) else { return }
            if health == .allowAll { guard group.unhealthy.forEach(body) else { return } }
        }
    }

    /// Sum of the capacities of the endpoints the health policy admits.
    func weight(_ health: LoadBalancing.HealthPolicy) -> UInt64 {
        groups.reduce(0) { $0 + $1.healthy.weight + (health == .allowAll ? $1.unhealthy.weight : 0) }
    }

    /// The endpoint that the point `0..<weight(health)` falls on, with the unhealthy ones behind all others.
    func at(_ point: UInt64) -> Workload? {
        var point = point
        for group in groups {
            if point < group.healthy.weight { return group.healthy.at(point) }
            point -= group.healthy.weight
        }
        for group in groups {
            if point < group.unhealthy.weight { return group.unhealthy.at(point) }
            point -= group.unhealthy.weight
        }
        return nil
    }

    /// The endpoints the health policy admits, in parts of one rank each.
    ///
    /// - Parameters:
    ///   - node: set when the rank depends on it: endpoints on this node are a part of their own.
    ///   - rank: of a part, known by any of its members and by whether it is on the node; `nil` leaves it out.
    func spans(
        _ health: LoadBalancing.HealthPolicy, node: String?, rank: (_ member: Workload, _ onNode: Bool) -> Int?
    ) -> [Span] {
        var spans: [Span] = []
        for group in groups {
            guard let member = group.member else { continue }
            for tree in [group.healthy, group.unhealthy].prefix(health == .allowAll ? 2 : 1) where tree.weight > 0 {
                func add(_ points: Range<UInt64>, _ onNode: Bool) {
                    guard !points.isEmpty, let rank = rank(member, onNode) else { return }
                    spans.append(Span(tree: tree, points: points, rank: rank))
                }
                guard let node else {
                    add(0..<tree.weight, false)
                    continue
                }
                let own = tree.points(onNode: node)
                add(own, true)
                add(0..<own.lowerBound, false)
                add(own.upperBound..<tree.weight, false)
            }
        }
        return spans
    }
}

extension EndpointSet.Span {
    var weight: UInt64 { UInt64(points.count) }

    /// Calls the body for each endpoint with a capacity.
    func forEach(_ body: (Workload) -> Void) {
        var start: UInt64 = 0
        _ = tree.forEach { workload in
            if workload.capacity > 0, points.contains(start) { body(workload) }
            start += UInt64(workload.capacity)
            return start < points.upperBound
        }
    }
}
