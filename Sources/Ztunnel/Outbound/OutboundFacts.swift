import Addressing
import HBONE
import Mesh
import Observability

/// What connections of one pod that take the same route have in common, spelled out once.
struct OutboundFacts {
    let route: HBONERoute
    /// The pod.
    let workload: Workload
    /// Of the CONNECT request.
    let authority: String
    let baggage: String
    /// The tunnel it goes through.
    let key: TunnelKey
    let counters: ConnectionCounters
    /// For the access log; the source without its address.
    let source: AccessRecord.Source
    let destination: AccessRecord.Destination

    init(_ route: HBONERoute, from workload: Workload, _ counterCache: CounterCache) {
        self.route = route
        self.workload = workload
        authority = route.authority.description
        baggage = Baggage(workload).headerValue
        key = TunnelKey(identity: workload.identity, destination: route.dial, expected: route.expectedIdentities)
        let own = Party(workload: workload, principal: workload.identity)
        let peer = Party(workload: route.workload, principal: route.workload.identity)
        counters = counterCache.counters(
            .source, source: own, destination: peer, service: route.service, security: .mutualTLS)
        source = .init(nil, own, mutualTLS: true)
        destination = .init(route.dial, peer, authority: authority, service: route.service, mutualTLS: true)
    }

    /// Whether all of it holds for a route: records are replaced and never changed, so the same record says the same.
    func holds(for other: HBONERoute, from workload: Workload) -> Bool {
        self.workload === workload && route.workload === other.workload && route.service === other.service
            && route.dial == other.dial && route.authority == other.authority
            && route.expectedIdentities == other.expectedIdentities && !counters.isRetired
    }
}

/// The routes that a pod's connections have taken lately.
struct OutboundMemory {
    private struct Key: Hashable {
        /// Kept alive by the facts that it leads to.
        let workload: ObjectIdentifier
        let authority: HBONEAuthority
    }

    /// Beyond this it begins anew.
    static let capacity = 256

    private var known: [Key: OutboundFacts] = [:]

    mutating func facts(_ route: HBONERoute, from workload: Workload, _ counters: CounterCache) -> OutboundFacts {
        let key = Key(workload: ObjectIdentifier(route.workload), authority: route.authority)
        if let facts = known[key], facts.holds(for: route, from: workload) { return facts }
        if known.count >= Self.capacity { known = [:] }
        let facts = OutboundFacts(route, from: workload, counters)
        known[key] = facts
        return facts
    }

    /// Keeps no record alive that the mesh has let go of. Called now and then.
    mutating func forget() { known = [:] }
}
