import Addressing

/// A reply of a name server, as it is passed on.
public struct UpstreamReply: Sendable {
    public let message: DNSMessage

    /// Takes a message for the reply to a question, or not.
    ///
    /// It must be a well-formed response with the id that was sent, the same opcode, and the very question that was
    /// asked. A reply without any question is taken only when it says that something went wrong: servers that cannot
    /// read a query send its header back.
    public init?(_ bytes: [UInt8], to query: DNSQuery, id: UInt16) {
        guard bytes.count >= DNSMessage.headerLength, bytes[0] == UInt8(id >> 8), bytes[1] == UInt8(id & 0xff) else {
            return nil
        }
        // What cannot be read is no reply, whatever is wrong with it.
        guard let message = try? DNSMessage(parsing: bytes), message.header.isResponse,
            message.header.opcode == query.message.header.opcode
        else { return nil }
        guard
            message.questions == query.message.questions
                || message.questions.isEmpty && message.responseCode != .noError
        else { return nil }
        self.message = message
    }

    /// Whether another server may do better: this one cannot or will not answer.
    public var isFailure: Bool {
        switch message.responseCode {
        case .serverFailure, .notImplemented, .refused, .formatError: true
        default: false
        }
    }

    public var isTruncated: Bool { message.header.isTruncated }

    /// The bytes for the client: its id, in the question its spelling, not authoritative, and no longer than `limit`.
    /// What is too long is cut to the question and marked so (RFC 2181 section 9), and the client asks again over TCP.
    public func bytes(for query: DNSQuery, limit: Int) -> [UInt8] {
        var bytes = message.bytes
        let request = query.message
        bytes[0] = request.bytes[0]
        bytes[1] = request.bytes[1]
        bytes[2] &= ~0x04
        bytes[3] |= 0x80
        // The same length, since a question has nothing before it that it could point to but itself.
        let question = DNSMessage.headerLength..<request.questionsEnd
        if message.questions.count == 1, message.questionsEnd == request.questionsEnd {
            bytes.replaceSubrange(question, with: request.bytes[question])
        }
        guard bytes.count > limit else { return bytes }
        var short = Array(bytes[..<message.questionsEnd])
        short[2] |= 0x02
        for index in 6..<12 { short[index] = 0 }
        if let opt = message.records.first(where: { $0.type == .opt }),
            short.count + opt.end - opt.nameOffset <= limit
        {
            short += bytes[opt.nameOffset..<opt.end]
            short[11] = 1
        }
        return short
    }

    /// The addresses that the answer gives for a name, through its aliases, and for how many seconds they hold.
    ///
    /// Records of names that do not lead there do not count, nor does what a server adds unasked.
    public func addresses(of name: DNSName) -> (addresses: [IPAddress], seconds: UInt32) {
        var current = name
        var seconds = UInt32.max
        for _ in 0..<Self.mostAliases {
            var addresses: [IPAddress] = []
            var next: DNSName?
            for record in message.records where record.section == .answer && record.recordClass == DNSMessage.internet {
                // A record that cannot be read is none of this name's.
                guard let owner = try? message.name(of: record), owner == current else { continue }
                if let address = message.address(of: record) {
                    addresses.append(address)
                    seconds = min(seconds, record.timeToLive)
                } else if record.type == .cname, let target = try? message.target(of: record) {
                    next = target
                    seconds = min(seconds, record.timeToLive)
                }
            }
            if !addresses.isEmpty { return (addresses, seconds) }
            guard let next else { break }
            current = next
        }
        return ([], seconds == .max ? 0 : seconds)
    }

    private static let mostAliases = 16
}
