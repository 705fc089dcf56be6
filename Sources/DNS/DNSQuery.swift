/// What a client sent, judged: what to do with it before anybody looks at its name.
public enum ReceivedQuery: Sendable {
    /// A question of the ordinary kind.
    case query(DNSQuery)
    /// Another opcode, such as UPDATE or NOTIFY: not ours to answer, and passed on as it is.
    case foreign(DNSQuery)
    /// Answered at once, with what is in the bytes.
    case reject([UInt8], ResponseCode)
    /// Not answered: it is a response, or too short to have an id. An answer to an answer is how loops begin.
    case drop

    /// Judges a message from a client. Never throws: what cannot be read is rejected or dropped.
    public init(_ bytes: [UInt8]) {
        guard bytes.count >= DNSMessage.headerLength, bytes[2] & 0x80 == 0 else {
            self = .drop
            return
        }
        do throws(DNSError) {
            let message = try DNSMessage(parsing: bytes)
            let query = DNSQuery(message)
            guard message.header.opcode == 0 else {
                self = .foreign(query)
                return
            }
            guard message.questions.count == 1, message.records.allSatisfy({ $0.section == .additional }) else {
                self = .reject(Self.formatError(bytes), .formatError)
                return
            }
            if let edns = message.edns, edns.version > 0 {
                self = .reject(ReplyWriter.failure(.badVersion, to: query), .badVersion)
                return
            }
            self = .query(query)
        } catch {
            self = .reject(Self.formatError(bytes), .formatError)
        }
    }

    /// A header alone: what could not be read is not sent back.
    private static func formatError(_ bytes: [UInt8]) -> [UInt8] {
        let flags: [UInt8] = [bytes[2] & 0x79 | 0x80, 0x80 | UInt8(ResponseCode.formatError.rawValue)]
        return Array(bytes[0..<2]) + flags + Array(repeating: 0, count: 8)
    }
}

/// A client's query.
public struct DNSQuery: Sendable {
    public let message: DNSMessage

    init(_ message: DNSMessage) { self.message = message }

    /// The one question; for a foreign opcode whatever stands first, if anything does.
    public var question: DNSMessage.Question? { message.questions.first }

    public var bytes: [UInt8] { message.bytes }

    /// The longest datagram to answer with: what the client asked for, 512 when it did not ask (RFC 1035 section 4.2.1,
    /// RFC 6891 section 6.2.3), and no more than ``largestDatagram`` whatever it asks for.
    public var datagramLimit: Int {
        guard let edns = message.edns else { return Self.smallestDatagram }
        return min(max(Int(edns.payloadSize), Self.smallestDatagram), Self.largestDatagram)
    }

    public static let smallestDatagram = 512
    /// Longest datagram taken or sent.
    public static let largestDatagram = 4096

    /// The query with another id, for the way upstream: the client's own id is nobody else's business.
    public func bytes(id: UInt16) -> [UInt8] {
        var copy = message.bytes
        copy[0] = UInt8(id >> 8)
        copy[1] = UInt8(id & 0xff)
        return copy
    }
}

extension DNSQuery {
    /// A question of our own, which wants recursion and takes datagrams that pass any path whole. Its id is set when it
    /// is sent.
    public init(asking name: DNSName, _ type: RecordType) {
        var bytes: [UInt8] = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
        bytes += name.wire
        bytes += [UInt8(type.rawValue >> 8), UInt8(type.rawValue & 0xff), 0, UInt8(DNSMessage.internet)]
        // OPT with 1232 bytes (the DNS flag day's figure).
        bytes += [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]
        do {
            message = try DNSMessage(parsing: bytes)
        } catch {
            preconditionFailure("a query of our own cannot be read: \(error)")
        }
    }
}
