import Addressing

/// A DNS message with its parts found (RFC 1035 section 4). The bytes stay as they came; names and data of records are
/// read when they are asked for, so what is only passed on is not unfolded.
///
/// Parsing takes any bytes: it throws, and neither loops nor reads outside of them.
public struct DNSMessage: Sendable {
    /// Longest message: what the length in front of it on TCP can say.
    public static let longest = 65_535
    public static let headerLength = 12

    public struct Header: Hashable, Sendable {
        public var id: UInt16
        public var flags: UInt16

        public var isResponse: Bool { flags & 0x8000 != 0 }
        /// 0: a query; 4: NOTIFY; 5: UPDATE.
        public var opcode: UInt8 { UInt8(flags >> 11 & 15) }
        public var isAuthoritative: Bool { flags & 0x0400 != 0 }
        public var isTruncated: Bool { flags & 0x0200 != 0 }
        public var recursionDesired: Bool { flags & 0x0100 != 0 }
        public var recursionAvailable: Bool { flags & 0x0080 != 0 }
        public var checkingDisabled: Bool { flags & 0x0010 != 0 }
        /// The lower four bits; ``DNSMessage/responseCode`` has all.
        public var responseCode: UInt16 { flags & 15 }
    }

    public struct Question: Hashable, Sendable {
        public let name: DNSName
        public let type: RecordType
        public let recordClass: UInt16

        public init(_ name: DNSName, _ type: RecordType, recordClass: UInt16 = DNSMessage.internet) {
            self.name = name
            self.type = type
            self.recordClass = recordClass
        }
    }

    public enum Section: Hashable, Sendable { case answer, authority, additional }

    /// Where a record is in the message.
    public struct Record: Hashable, Sendable {
        public let section: Section
        public let type: RecordType
        public let recordClass: UInt16
        public let timeToLive: UInt32
        let nameOffset: Int
        let dataOffset: Int
        let dataLength: Int
        var end: Int { dataOffset + dataLength }
    }

    /// What the OPT record says (RFC 6891).
    public struct EDNS: Hashable, Sendable {
        /// The largest datagram the sender takes, as it says: values below 512 mean 512.
        public let payloadSize: UInt16
        public let version: UInt8
        /// It wants DNSSEC records.
        public let dnssecOK: Bool
        let extendedCode: UInt8
    }

    /// The class IN.
    public static let internet: UInt16 = 1

    public let bytes: [UInt8]
    public let header: Header
    public let questions: [Question]
    /// Where the questions end.
    let questionsEnd: Int
    public let records: [Record]
    public let edns: EDNS?

    /// Finds the parts of a message.
    /// - Throws: ``DNSError``, when anything in it is not as it must be; bytes behind the last record count as such.
    public init(parsing bytes: [UInt8]) throws(DNSError) {
        guard bytes.count <= Self.longest else { throw DNSError(.tooLong, "\(bytes.count) bytes are no DNS message") }
        var reader = DNSReader(bytes)
        header = Header(id: try reader.number16(), flags: try reader.number16())
        let counts = [
            Int(try reader.number16()), Int(try reader.number16()), Int(try reader.number16()),
            Int(try reader.number16()),
        ]
        // A question takes five bytes at least, a record eleven.
        guard counts[0] * 5 + (counts[1] + counts[2] + counts[3]) * 11 <= reader.left else {
            throw DNSError(.truncated, "the message announces more records than it can hold")
        }
        var questions: [Question] = []
        for _ in 0..<counts[0] {
            let name = try reader.name()
            questions.append(
                Question(name, RecordType(rawValue: try reader.number16()), recordClass: try reader.number16()))
        }
        self.questions = questions
        questionsEnd = reader.offset
        var records: [Record] = []
        var edns: EDNS?
        for (section, count) in zip([Section.answer, .authority, .additional], counts.dropFirst()) {
            for _ in 0..<count {
                let record = try Self.record(section, &reader)
                records.append(record)
                guard record.type == .opt else { continue }
                guard section == .additional, edns == nil, bytes[record.nameOffset] == 0 else {
                    throw DNSError(.malformed, "an OPT record where none must be")
                }
                edns = EDNS(
                    payloadSize: record.recordClass, version: UInt8(record.timeToLive >> 16 & 0xff),
                    dnssecOK: record.timeToLive & 0x8000 != 0, extendedCode: UInt8(record.timeToLive >> 24))
            }
        }
        guard reader.left == 0 else { throw DNSError(.malformed, "\(reader.left) bytes behind the last record") }
        self.bytes = bytes
        self.records = records
        self.edns = edns
    }

    private static func record(_ section: Section, _ reader: inout DNSReader) throws(DNSError) -> Record {
        let nameOffset = reader.offset
        try reader.skipName()
        let type = RecordType(rawValue: try reader.number16())
        let recordClass = try reader.number16()
        let timeToLive = try reader.number32()
        let length = Int(try reader.number16())
        let dataOffset = reader.offset
        try reader.skip(length)
        return Record(
            section: section, type: type, recordClass: recordClass, timeToLive: timeToLive, nameOffset: nameOffset,
            dataOffset: dataOffset, dataLength: length)
    }

    /// All twelve bits of it.
    public var responseCode: ResponseCode {
        ResponseCode(rawValue: header.responseCode | UInt16(edns?.extendedCode ?? 0) << 4)
    }

    // MARK: Records

    public func name(of record: Record) throws(DNSError) -> DNSName {
        var reader = DNSReader(bytes, at: record.nameOffset)
        return try reader.name()
    }

    /// The data as it is on the wire. Names in it may be compressed.
    public func data(of record: Record) -> ArraySlice<UInt8> { bytes[record.dataOffset..<record.end] }

    /// The address in an A or AAAA record; `nil` for other types, or when its length is wrong.
    public func address(of record: Record) -> IPAddress? {
        switch (record.type, record.dataLength) {
        case (.a, 4), (.aaaa, 16): IPAddress(bytes: Array(data(of: record)))
        default: nil
        }
    }

    /// The name that is all the data of a CNAME, PTR or NS record.
    public func target(of record: Record) throws(DNSError) -> DNSName {
        try embeddedName(record, after: 0)
    }

    /// What an SRV record says (RFC 2782).
    public func service(of record: Record) throws(DNSError) -> ServiceRecord {
        var reader = DNSReader(bytes, at: record.dataOffset)
        return ServiceRecord(
            priority: try reader.number16(), weight: try reader.number16(), port: try reader.number16(),
            target: try embeddedName(record, after: 6))
    }

    private func embeddedName(_ record: Record, after: Int) throws(DNSError) -> DNSName {
        guard record.dataLength > after else { throw DNSError(.malformed, "a \(record.type) record without a name") }
        var reader = DNSReader(bytes, at: record.dataOffset + after)
        let name = try reader.name()
        guard reader.offset == record.end else {
            throw DNSError(.malformed, "a \(record.type) record with something behind its name")
        }
        return name
    }
}

/// Where a service is to be found (RFC 2782).
public struct ServiceRecord: Hashable, Sendable {
    public let priority: UInt16
    public let weight: UInt16
    public let port: UInt16
    public let target: DNSName

    public init(priority: UInt16 = 0, weight: UInt16 = 0, port: UInt16, target: DNSName) {
        self.priority = priority
        self.weight = weight
        self.port = port
        self.target = target
    }
}
