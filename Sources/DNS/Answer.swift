import Addressing

/// A record of our own making.
public struct AnswerRecord: Hashable, Sendable {
    public enum Data: Hashable, Sendable {
        case address(IPAddress)
        /// CNAME.
        case alias(DNSName)
        /// PTR.
        case pointer(DNSName)
        case service(ServiceRecord)
        /// SOA: for how long a negative answer may be kept is its `minimum`, in seconds.
        case authority(primary: DNSName, mailbox: DNSName, serial: UInt32, minimum: UInt32)

        public var type: RecordType {
            switch self {
            case .address(let address): address.isV4 ? .a : .aaaa
            case .alias: .cname
            case .pointer: .ptr
            case .service: .srv
            case .authority: .soa
            }
        }
    }

    public let name: DNSName
    public let data: Data
    /// In seconds.
    public let timeToLive: UInt32

    public init(_ name: DNSName, _ data: Data, timeToLive: UInt32 = AnswerRecord.timeToLive) {
        self.name = name
        self.data = data
        self.timeToLive = timeToLive
    }

    /// Istio's: endpoints come and go.
    public static let timeToLive: UInt32 = 30
}

/// What the mesh knows about a name.
public struct Answer: Hashable, Sendable {
    /// An alias first, then what was asked for; empty when the name is known and has nothing of the type.
    public var records: [AnswerRecord]
    /// Addresses of what ``records`` point to.
    public var additional: [AnswerRecord]
    /// The zone that says so, in a negative answer (RFC 2308).
    public var zone: DNSName
    /// The host name that was found, for the log.
    public var host: String

    public init(records: [AnswerRecord], additional: [AnswerRecord] = [], zone: DNSName, host: String) {
        self.records = records
        self.additional = additional
        self.zone = zone
        self.host = host
    }

    /// Whether there is nothing but aliases.
    public var isEmpty: Bool { records.allSatisfy { $0.data.type == .cname } }

    /// The reply to send.
    /// - Parameters:
    ///   - limit: the longest reply in bytes.
    ///   - serial: of the SOA record in a negative answer; anything that grows.
    public func reply(to query: DNSQuery, limit: Int, serial: UInt32) -> [UInt8] {
        var writer = ReplyWriter(query, code: .noError, authoritative: true, limit: limit)
        for record in records { writer.add(record, to: .answer) }
        if isEmpty, records.isEmpty || query.question?.type != .cname {
            writer.add(Self.authority(zone, serial), to: .authority)
        } else {
            for record in additional { writer.add(record, to: .additional) }
        }
        return writer.finished()
    }

    private static func authority(_ zone: DNSName, _ serial: UInt32) -> AnswerRecord {
        func below(_ labels: String) -> DNSName {
            guard let prefix = DNSName(labels), prefix.wire.count + zone.wire.count <= DNSName.longest else {
                return zone
            }
            return DNSName(wire: prefix.wire.dropLast() + zone.wire)
        }
        return AnswerRecord(
            zone,
            .authority(
                primary: below("ns.dns"), mailbox: below("hostmaster"), serial: serial,
                minimum: AnswerRecord.timeToLive))
    }
}

extension DNSQuery {
    /// A reply that says only that it went wrong.
    public func failure(_ code: ResponseCode) -> [UInt8] { ReplyWriter.failure(code, to: self) }
}
