import Addressing
import Mesh

/// Names of single pods, and the names of addresses.
extension Resolver {
    // MARK: Names to addresses

    /// `pod.service.namespace.svc.cluster.local` of a headless service's endpoint, and
    /// `10-1-2-3.namespace.pod.cluster.local`, if there is such a pod.
    func podAddresses(
        _ question: DNSMessage.Question, _ name: String, _ random: inout some RandomNumberGenerator
    ) -> Resolution {
        guard question.type != .cname else { return .forward }
        for candidate in Candidates(name, for: client).all + endpointCandidates(name) {
            guard let found = pod(named: candidate.host) else { continue }
            var owner = question.name
            var records: [AnswerRecord] = []
            if let stripped = candidate.stripped.flatMap(DNSName.init) {
                records.append(AnswerRecord(owner, .alias(stripped)))
                owner = stripped
            }
            records += addressRecords(owner, question.type, found, &random)
            return .answer(
                Answer(
                    records: records, zone: DNSName(client.clusterDomain) ?? .root, host: candidate.host))
        }
        return .forward
    }

    /// `pod.service` and `pod.service.namespace` have as many labels as services' names; what they stand for is found by
    /// their own last labels.
    private func endpointCandidates(_ name: String) -> [Candidates.Candidate] {
        let shorts = client.searchDomains.compactMap { Candidates.remove($0, from: name) }
        return ([name] + shorts).flatMap { short in
            let stripped = short == name ? nil : short
            let domain = client.clusterDomain
            let labels = short.split(separator: ".", omittingEmptySubsequences: false)
            let hosts =
                switch labels.count {
                case 2: ["\(short).\(client.namespace).svc.\(domain)"]
                case 3: ["\(short).svc.\(domain)", "\(short).\(domain)"]
                case 4 where labels[3] == "svc": ["\(short).\(domain)"]
                default: [String]()
                }
            return hosts.map { Candidates.Candidate(host: $0, stripped: stripped) }
        }
    }

    /// The addresses of the one pod that has this full name.
    private func pod(named host: String) -> [IPAddress]? {
        guard let short = Candidates.remove(client.clusterDomain, from: host) else { return nil }
        let labels = short.split(separator: ".", omittingEmptySubsequences: false)
        if labels.count == 3, labels[2] == "pod" {
            guard let address = Self.dashed(labels[0]),
                let workload = mesh.workload(at: address, network: client.network),
                workload.namespace == labels[1]
            else { return nil }
            return [address]
        }
        guard labels.count == 4, labels[3] == "svc", let dot = host.firstIndex(of: ".") else { return nil }
        let serviceHost = String(host[host.index(after: dot)...])
        // Only a headless service names its endpoints.
        guard let service = best(serviceHost), service.addresses.isEmpty else { return nil }
        let endpoint = endpoints(of: service).first { $0.name == labels[0] || Self.dashedName($0) == String(labels[0]) }
        return endpoint.map { workload in
            Self.firstOfEachFamily(workload).filter { address in
                switch service.ipFamilies {
                case .v4Only: address.isV4
                case .v6Only: !address.isV4
                case .automatic, .dual: true
                }
            }
        }
    }

    /// `10-1-2-3` and `fd00--1`, as Kubernetes writes addresses in names.
    static func dashed(_ label: some StringProtocol) -> IPAddress? {
        let text = String(label)
        return IPAddress(String(text.map { $0 == "-" ? "." : $0 }))
            ?? IPAddress(String(text.map { $0 == "-" ? ":" : $0 }))
    }

    static func dashedName(_ workload: Workload) -> String? {
        workload.addresses.first.map { dashed($0) }
    }

    static func dashed(_ address: IPAddress) -> String {
        String(address.description.map { $0 == "." || $0 == ":" ? "-" : $0 })
    }

    // MARK: Addresses to names

    /// The name of a service by its virtual address, or of a pod by its own.
    func reverse(_ question: DNSMessage.Question, _ name: String) -> Resolution {
        guard let address = Self.reversed(name), let host = host(of: address), let target = DNSName(host) else {
            return .forward
        }
        return .answer(
            Answer(
                records: [AnswerRecord(question.name, .pointer(target))], zone: question.name,
                host: host))
    }

    private func host(of address: IPAddress) -> String? {
        if let service = mesh.service(at: address, network: client.network, from: client.namespace),
            // Not by the block it is in: that is many addresses, and this name is not theirs.
            service.addresses.contains(NetworkAddress(network: client.network, address: address))
        {
            return service.hostname
        }
        guard let workload = mesh.workload(at: address, network: client.network) else { return nil }
        let headless = mesh.services(of: workload).first {
            $0.addresses.isEmpty && isInCluster($0.hostname)
                && ($0.visibility == .everywhere || $0.namespace == client.namespace)
        }
        if let headless { return "\(workload.name).\(headless.hostname)" }
        // An address outside of the cluster has a name of its own, which others know.
        guard !workload.namespace.isEmpty, workload.hostname.isEmpty, workload.uid.contains("//Pod/") else {
            return nil
        }
        return "\(Self.dashed(address)).\(workload.namespace).pod.\(client.clusterDomain)"
    }

    /// `4.3.2.1.in-addr.arpa`, or 32 digits and `ip6.arpa` (RFC 1035 section 3.5, RFC 3596 section 2.5).
    static func reversed(_ name: String) -> IPAddress? {
        if let rest = Candidates.remove("in-addr.arpa", from: name) {
            return IPAddress(
                rest.split(separator: ".", omittingEmptySubsequences: false).reversed().joined(separator: "."))
        }
        guard let rest = Candidates.remove("ip6.arpa", from: name) else { return nil }
        let digits = rest.split(separator: ".", omittingEmptySubsequences: false)
        guard digits.count == 32, digits.allSatisfy({ $0.utf8.count == 1 }) else { return nil }
        let hex = digits.reversed().joined()
        guard let high = UInt64(hex.prefix(16), radix: 16), let low = UInt64(hex.suffix(16), radix: 16) else {
            return nil
        }
        return IPAddress(v6High: high, low: low)
    }
}
