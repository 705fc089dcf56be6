import Addressing
import Mesh

/// What becomes of a question.
public enum Resolution: Hashable, Sendable {
    /// The mesh knows.
    case answer(Answer)
    /// The pod's own name servers are asked.
    case forward
}

/// Answers questions from what is known of the mesh: a pure function of question, client and state.
public struct Resolver: Sendable {
    let client: DNSClient
    let mesh: MeshState

    public init(client: DNSClient, mesh: MeshState) {
        self.client = client
        self.mesh = mesh
    }

    /// - Parameter random: For the order of addresses.
    public func resolve(
        _ question: DNSMessage.Question, using random: inout some RandomNumberGenerator
    ) -> Resolution {
        guard question.recordClass == DNSMessage.internet, let name = question.name.hostname else { return .forward }
        switch question.type {
        case .ptr: return reverse(question, name)
        case .srv: return services(question, name, &random)
        case .a, .aaaa, .any, .https, .svcb, .cname: return addresses(question, name, &random)
        default: return .forward
        }
    }

    // MARK: Addresses

    private func addresses(
        _ question: DNSMessage.Question, _ name: String, _ random: inout some RandomNumberGenerator
    ) -> Resolution {
        guard let found = find(name) else { return podAddresses(question, name, &random) }
        // Of a name that is itself there is no alias here; others may know one.
        if question.type == .cname, found.stripped == nil { return .forward }
        var owner = question.name
        var records: [AnswerRecord] = []
        if let stripped = found.stripped.flatMap(DNSName.init) {
            records.append(AnswerRecord(owner, .alias(stripped)))
            owner = stripped
        }
        if question.type != .cname {
            records += addressRecords(owner, question.type, addresses(of: found.service), &random)
        }
        return .answer(Answer(records: records, zone: zone(of: owner), host: found.service.hostname))
    }

    /// Names of the cluster belong to it, others to themselves.
    private func zone(of name: DNSName) -> DNSName {
        guard let cluster = DNSName(client.clusterDomain) else { return name }
        return name.isIn(cluster) ? cluster : name
    }

    /// Shuffled, and only of the type asked for. Types that would lead a client past these addresses have none.
    func addressRecords(
        _ owner: DNSName, _ type: RecordType, _ addresses: [IPAddress],
        _ random: inout some RandomNumberGenerator
    ) -> [AnswerRecord] {
        addresses.filter { address in
            switch type {
            case .a: address.isV4
            case .aaaa: !address.isV4 && client.ipv6
            case .any: address.isV4 || client.ipv6
            default: false
            }
        }.shuffled(using: &random).map { AnswerRecord(owner, .address($0)) }
    }

    /// The virtual addresses in the client's network, or those of a headless service's endpoints. Blocks of addresses
    /// are no addresses.
    func addresses(of service: Service) -> [IPAddress] {
        let found =
            service.addresses.isEmpty
            ? endpoints(of: service).flatMap(Self.firstOfEachFamily)
            : service.addresses.filter { $0.network == client.network }.map(\.address)
        var seen: Set<IPAddress> = []
        return found.filter { address in
            switch service.ipFamilies {
            case .v4Only where !address.isV4, .v6Only where address.isV4: false
            default: seen.insert(address).inserted
            }
        }
    }

    static func firstOfEachFamily(_ workload: Workload) -> [IPAddress] {
        [workload.addresses.first(where: \.isV4), workload.addresses.first { !$0.isV4 }].compactMap { $0 }
    }

    /// Those that may get traffic.
    func endpoints(of service: Service) -> [Workload] {
        let all = mesh.endpoints(of: service.key)
        return service.loadBalancing?.healthPolicy == .allowAll ? all : all.filter { $0.status == .healthy }
    }

    // MARK: Services by name

    struct Found {
        let service: Service
        /// See ``Candidates/Candidate/stripped``.
        let stripped: String?
    }

    func find(_ name: String) -> Found? {
        for candidate in Candidates(name, for: client).all {
            if let service = best(candidate.host) { return Found(service: service, stripped: candidate.stripped) }
            for wildcard in Candidates.wildcards(of: candidate.host) {
                if let service = best(wildcard) { return Found(service: service, stripped: nil) }
            }
        }
        return nil
    }

    /// The client's own namespace wins, then a canonical service (the last that came), then the preferred namespace's,
    /// then the one that came first.
    func best(_ host: String) -> Service? {
        var best: Service?
        func rank(_ service: Service) -> Int {
            service.canonical ? 2 : service.namespace == client.preferredNamespace ? 1 : 0
        }
        for service in mesh.services(hostname: host) where isCandidate(service) {
            if service.namespace == client.namespace { return service }
            if best.map({ service.canonical || rank(service) > rank($0) }) ?? true { best = service }
        }
        return best
    }

    private func isCandidate(_ service: Service) -> Bool {
        guard service.visibility == .everywhere || service.namespace == client.namespace else { return false }
        return !service.addresses.isEmpty || isInCluster(service.hostname)
    }

    func isInCluster(_ host: String) -> Bool { host.hasSuffix(".svc.\(client.clusterDomain)") }
}
