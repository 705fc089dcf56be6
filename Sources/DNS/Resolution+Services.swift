import Addressing
import Mesh

/// SRV: where a service's ports are (RFC 2782).
extension Resolver {
    /// `_8080._tcp.service...` by the port's number, and all ports for the service's own name. What a port is called is
    /// not told to the mesh, so `_http._tcp...` is asked of the pod's name servers, who know, and whose answer passes
    /// unchanged.
    func services(
        _ question: DNSMessage.Question, _ name: String, _ random: inout some RandomNumberGenerator
    ) -> Resolution {
        let labels = name.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
        var port: UInt16?
        var host = name
        if name.utf8.first == UInt8(ascii: "_") {
            guard labels.count == 3, labels[1] == "_tcp", let number = UInt16(labels[0].dropFirst()) else {
                return .forward
            }
            port = number
            host = String(labels[2])
        }
        // A name outside of the cluster may have records of its own that say more than ports.
        guard let found = find(host), isInCluster(found.service.hostname), found.stripped == nil else {
            return .forward
        }
        let ports = found.service.ports.filter { port == nil || $0.servicePort == port }
        guard !ports.isEmpty else { return .forward }
        let (records, additional) =
            found.service.addresses.isEmpty
            ? headless(question.name, found.service, ports, &random)
            : virtual(question.name, found.service, ports, &random)
        return .answer(
            Answer(
                records: records, additional: additional, zone: DNSName(client.clusterDomain) ?? .root,
                host: found.service.hostname))
    }

    private func virtual(
        _ owner: DNSName, _ service: Service, _ ports: [Service.Port], _ random: inout some RandomNumberGenerator
    ) -> ([AnswerRecord], [AnswerRecord]) {
        guard let target = DNSName(service.hostname) else { return ([], []) }
        let records = ports.map {
            AnswerRecord(owner, .service(ServiceRecord(weight: 100, port: $0.servicePort, target: target)))
        }
        return (records, addressRecords(target, .any, addresses(of: service), &random))
    }

    /// Each endpoint under its own name, with the port it listens on.
    private func headless(
        _ owner: DNSName, _ service: Service, _ ports: [Service.Port], _ random: inout some RandomNumberGenerator
    ) -> ([AnswerRecord], [AnswerRecord]) {
        var records: [AnswerRecord] = []
        var additional: [AnswerRecord] = []
        for workload in endpoints(of: service).shuffled(using: &random) {
            guard let target = DNSName("\(workload.name).\(service.hostname)") else { continue }
            let own = ports.map { workload.services[service.key]?[$0.servicePort] ?? $0.targetPort }.filter { $0 != 0 }
            guard !own.isEmpty else { continue }
            records += own.map {
                AnswerRecord(owner, .service(ServiceRecord(weight: 100, port: $0, target: target)))
            }
            additional += addressRecords(target, .any, Self.firstOfEachFamily(workload), &random)
        }
        return (records, additional)
    }
}
