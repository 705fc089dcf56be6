import Addressing
import HBONE
import Mesh
import Observability

/// What the mesh says of one request in a tunnel: where it goes, whether it may, and how it is told of.
///
/// It follows from the mesh, the tunnel's two ends, and what the request says in ``Asked``. A peer's requests say the same
/// again and again, so a tunnel keeps the last answers (``InboundMemory``).
final class InboundFacts {
    /// What a request says that matters.
    struct Asked: Hashable {
        let authority: String
        let baggage: String?
        /// The service that the client addressed, by its `forwarded` header.
        let host: String?
        /// `x-forwarded-network`: the peer is a gateway of that network.
        let network: String?

        init(_ request: ConnectRequest) {
            authority = request.authority
            baggage = request.baggage
            host = request.forwarded.flatMap(Forwarded.host(in:))
            network = request.header("x-forwarded-network")
        }

        /// Of one peer's requests the rest is nearly always the same, and long.
        func hash(into hasher: inout Hasher) { hasher.combine(authority) }
    }

    let asked: Asked
    /// Of the mesh that the rest was found out from.
    let revision: UInt64
    /// The pod.
    let workload: Workload
    let target: InboundTarget
    /// Told by the peer or found by the port.
    let service: Service?
    let counters: ConnectionCounters
    let question: AuthorizationRequest
    let verdict: AuthorizationVerdict
    /// Without its trace.
    let record: AccessRecord
    /// Fields of the answer to a request that is taken.
    let reply: [HeaderField]
    /// Whether the last connection that said anything began with the client. It decides how the next one is dialed, and
    /// nothing else.
    var clientSpeaksFirst = false

    init(
        _ asked: Asked, _ target: InboundTarget, _ workload: Workload, _ state: MeshState, _ proxy: PodProxy,
        peer: Endpoint, identity: SPIFFEIdentity, local: Endpoint
    ) {
        self.asked = asked
        self.target = target
        self.workload = workload
        revision = state.revision
        // The peer's address says nothing in another network: it is that of a gateway.
        let isForeign = asked.network.map { $0.lowercased() != state.settings.network.lowercased() } ?? false
        let source = Party(
            workload: isForeign ? nil : state.workload(at: peer.address), principal: identity,
            baggage: proxy.configuration.responseBaggage ? asked.baggage.map(Baggage.init(headerValue:)) : nil)
        let own = Party(workload: workload, principal: workload.identity)
        service =
            target.service
            ?? state.inboundService(of: workload, port: target.destination.port, forwardedHost: asked.host)
        counters = proxy.worker.counters.counters(
            .destination, source: source, destination: own, service: service, security: .mutualTLS)
        record = AccessRecord(
            kind: .complete, source: .init(peer, source, mutualTLS: true),
            destination: .init(local, own, authority: asked.authority, service: service, mutualTLS: true),
            direction: .inbound)
        question = AuthorizationRequest(
            sourceIdentity: identity, sourceAddress: peer.address, destination: target.destination)
        verdict = state.authorize(question, for: workload)
        reply = proxy.configuration.responseBaggage ? [HeaderField("baggage", Baggage(workload).headerValue)] : []
    }
}

/// The last answers of one tunnel.
struct InboundMemory {
    /// As many as one client's pod uses ports of its peer, as a rule; beyond this it begins anew.
    static let capacity = 32

    private var known: [InboundFacts.Asked: InboundFacts] = [:]

    /// - Parameter revision: Of the mesh now: what was found out from another is not believed any more.
    func recall(_ asked: InboundFacts.Asked, of workload: Workload, at revision: UInt64) -> InboundFacts? {
        guard let facts = known[asked], facts.revision == revision, facts.workload === workload,
            !facts.counters.isRetired
        else { return nil }
        return facts
    }

    mutating func keep(_ facts: InboundFacts) {
        facts.clientSpeaksFirst = known[facts.asked]?.clientSpeaksFirst ?? false
        if known.count >= Self.capacity { known = [:] }
        known[facts.asked] = facts
    }
}
