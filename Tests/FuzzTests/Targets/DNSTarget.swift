import DNS
import Mesh

/// What a client asks, and what a name server answers.
enum DNSTarget {
    private static let question = DNSQuery(asking: DNSName("server.shop.svc.cluster.local")!, .a)

    /// A message from a client: judged, looked up in an empty mesh, refused; and the pod's resolv.conf as the same bytes.
    static func query(_ input: UnsafeRawBufferPointer) {
        let bytes = Array(input)
        guard bytes.count <= DNSMessage.longest else { return }
        switch ReceivedQuery(bytes) {
        case .query(let query):
            precondition((DNSQuery.smallestDatagram...DNSQuery.largestDatagram).contains(query.datagramLimit))
            answer(query)
        case .foreign(let query): precondition(query.failure(.notImplemented).count <= bytes.count + 64)
        // Never an amplification: what is refused is at most as long as what came.
        case .reject(let reply, _): precondition(reply.count <= max(bytes.count, 64) && reply[2] & 0x80 != 0)
        case .drop: break
        }
        let configuration = ResolverConfiguration(parsing: String(decoding: input, as: UTF8.self))
        precondition(configuration.servers.count <= ResolverConfiguration.mostServers)
        precondition(configuration.searchDomains.count <= ResolverConfiguration.mostSearchDomains)
    }

    private static func answer(_ query: DNSQuery) {
        guard let asked = query.question else { return }
        let name = asked.name
        if let text = name.hostname { precondition(DNSName(text) == name, "a name reads back as another") }
        let records = [
            AnswerRecord(name, .alias(name)), AnswerRecord(name, .address(.loopbackV4)),
            AnswerRecord(name, .address(.anyV6)),
        ]
        for answer in [
            Answer(records: records, zone: name, host: "host"), Answer(records: [], zone: name, host: "host"),
        ] {
            for limit in [512, query.datagramLimit, DNSMessage.longest] {
                let reply = answer.reply(to: query, limit: limit, serial: 1)
                precondition(reply.count <= limit)
                guard let back = try? DNSMessage(parsing: reply) else {
                    preconditionFailure("our own reply cannot be read")
                }
                precondition(back.header.isResponse && back.header.id == query.message.header.id)
            }
        }
    }

    /// A message from a name server, to a question of ours.
    static func reply(_ input: UnsafeRawBufferPointer) {
        let bytes = Array(input)
        guard bytes.count <= DNSMessage.longest, bytes.count >= 2 else { return }
        let id = UInt16(bytes[0]) << 8 | UInt16(bytes[1])
        if let message = try? DNSMessage(parsing: bytes) {
            for record in message.records {
                // Whatever a record's data is, reading it comes back.
                _ = try? message.name(of: record)
                _ = try? message.target(of: record)
                _ = try? message.service(of: record)
                _ = message.address(of: record)
                _ = message.data(of: record)
            }
        }
        guard let reply = UpstreamReply(bytes, to: question, id: id) else { return }
        for limit in [512, 1232, DNSMessage.longest] {
            let passed = reply.bytes(for: question, limit: limit)
            precondition(passed.count <= limit)
            precondition((try? DNSMessage(parsing: passed)) != nil, "what is passed on cannot be read")
        }
        _ = reply.addresses(of: question.question?.name ?? .root)
    }
}
