import Addressing

/// Writes replies of our own.
///
/// The question goes back as it came, in the client's own letters; the names of records that are equal to it point to
/// it, so the client reads its own spelling there too.
struct ReplyWriter {
    private(set) var bytes: [UInt8]
    private let query: DNSQuery
    private let limit: Int
    private let optLength: Int
    private var counts = (answer: 0, authority: 0, additional: 0)
    /// Names that have been written whole, and where.
    private var offsets: [DNSName: Int] = [:]
    private(set) var isTruncated = false

    /// - Parameter limit: the longest reply in bytes.
    init(_ query: DNSQuery, code: ResponseCode, authoritative: Bool, limit: Int) {
        self.query = query
        self.limit = limit
        optLength = query.message.edns == nil ? 0 : 11
        let request = query.message
        bytes = Array(request.bytes[0..<2])
        // The opcode, RD and CD are the query's; RA is always set.
        bytes.append(0x80 | request.bytes[2] & 0x79 | (authoritative ? 0x04 : 0))
        bytes.append(0x80 | request.bytes[3] & 0x10 | UInt8(code.rawValue & 15))
        bytes += [0, UInt8(request.questions.count & 0xff), 0, 0, 0, 0, 0, 0]
        extendedCode = UInt8(code.rawValue >> 4 & 0xff)
        guard let question = request.questions.first, request.questions.count == 1 else {
            // Without exactly one question there is nothing to repeat.
            bytes[5] = 0
            return
        }
        offsets[question.name] = bytes.count
        bytes += request.bytes[DNSMessage.headerLength..<request.questionsEnd]
    }

    private let extendedCode: UInt8

    /// A reply without records.
    static func failure(_ code: ResponseCode, to query: DNSQuery) -> [UInt8] {
        ReplyWriter(query, code: code, authoritative: false, limit: DNSMessage.longest).finished()
    }

    /// Adds a record if it fits. What does not fit into the answer makes the reply truncated; elsewhere it is left out.
    mutating func add(_ record: AnswerRecord, to section: DNSMessage.Section) {
        guard !isTruncated else { return }
        let mark = bytes.count
        let known = offsets
        write(record)
        guard bytes.count + optLength <= limit else {
            bytes.removeSubrange(mark...)
            offsets = known
            if section == .answer { isTruncated = true }
            return
        }
        switch section {
        case .answer: counts.answer += 1
        case .authority: counts.authority += 1
        case .additional: counts.additional += 1
        }
    }

    private mutating func write(_ record: AnswerRecord) {
        name(record.name)
        number16(record.data.type.rawValue)
        number16(DNSMessage.internet)
        number32(record.timeToLive)
        let lengthAt = bytes.count
        number16(0)
        switch record.data {
        case .address(let address): bytes += address.bytes
        case .alias(let target), .pointer(let target): name(target)
        case .service(let service):
            number16(service.priority)
            number16(service.weight)
            number16(service.port)
            // Not to be compressed (RFC 2782), but later names may point to it.
            remember(service.target)
            bytes += service.target.wire
        case .authority(let primary, let mailbox, let serial, let minimum):
            name(primary)
            name(mailbox)
            number32(serial)
            for value: UInt32 in [7200, 1800, 86400] { number32(value) }
            number32(minimum)
        }
        let length = bytes.count - lengthAt - 2
        bytes[lengthAt] = UInt8(length >> 8)
        bytes[lengthAt + 1] = UInt8(length & 0xff)
    }

    private mutating func name(_ name: DNSName) {
        if let offset = offsets[name] { return number16(0xc000 | UInt16(offset)) }
        remember(name)
        bytes += name.wire
    }

    private mutating func remember(_ name: DNSName) {
        if offsets[name] == nil, !name.isRoot, bytes.count < 0x4000 { offsets[name] = bytes.count }
    }

    private mutating func number16(_ value: UInt16) {
        bytes.append(UInt8(value >> 8))
        bytes.append(UInt8(value & 0xff))
    }

    private mutating func number32(_ value: UInt32) {
        number16(UInt16(value >> 16))
        number16(UInt16(truncatingIfNeeded: value))
    }

    /// The reply, with the OPT record that answers the query's, if it has one (RFC 6891 section 6.1.1).
    consuming func finished() -> [UInt8] {
        if isTruncated { bytes[2] |= 0x02 }
        if let edns = query.message.edns {
            bytes.append(0)
            number16(RecordType.opt.rawValue)
            number16(UInt16(DNSQuery.largestDatagram))
            bytes += [extendedCode, 0, edns.dnssecOK ? 0x80 : 0, 0]
            number16(0)
            counts.additional += 1
        }
        for (index, count) in [(6, counts.answer), (8, counts.authority), (10, counts.additional)] {
            bytes[index] = UInt8(count >> 8)
            bytes[index + 1] = UInt8(count & 0xff)
        }
        return bytes
    }
}
