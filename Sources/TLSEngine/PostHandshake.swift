/// Reads the handshake messages that may follow a TLS 1.3 handshake (RFC 8446 section 4.6), however they are cut into
/// records: KeyUpdate counts, tickets of a server are skipped, everything else is a violation.
struct PostHandshakeReader {
    enum Message {
        case keyUpdate(answerWanted: Bool)
    }

    private let role: TLSContext.Role
    private var header: UInt32 = 0
    private var headerBytes = 0
    private var left = 0
    private var type: UInt8 = 0
    /// Messages since the last application data; a peer that sends nothing else wastes our time.
    private var consecutive = 0

    /// - Parameter role: Which side we are; only servers send tickets.
    init(_ role: TLSContext.Role) { self.role = role }

    /// Whether a message has begun and not ended: no other content may come in between.
    var isInsideMessage: Bool { headerBytes > 0 }

    mutating func sawApplicationData() { consecutive = 0 }

    mutating func read(_ bytes: UnsafeRawBufferPointer) throws(TLSError) -> Message? {
        var found: Message?
        for byte in bytes {
            // A KeyUpdate changes the keys, so nothing may follow it in its record (section 5.1).
            guard found == nil else { throw violation("data after a KeyUpdate in one record") }
            if headerBytes < 4 {
                header = header << 8 | UInt32(byte)
                headerBytes += 1
                if headerBytes == 4 { try begin() }
                continue
            }
            left -= 1
            if type == 24 {
                guard byte <= 1 else { throw violation("KeyUpdate with value \(byte)", Alert.illegalParameter) }
                found = .keyUpdate(answerWanted: byte == 1)
            }
            if left == 0 { headerBytes = 0 }
        }
        return found
    }

    private mutating func begin() throws(TLSError) {
        type = UInt8(header >> 24)
        left = Int(header & 0xff_ffff)
        header = 0
        consecutive += 1
        guard consecutive <= 32 else { throw violation("too many handshake messages") }
        switch type {
        case 4 where role == .client && left > 0 && left <= 1 << 17: break
        case 24 where left == 1: break
        case 24: throw violation("KeyUpdate of \(left) bytes", Alert.decodeError)
        default: throw violation("handshake message of type \(type) and \(left) bytes after the handshake")
        }
    }

    private func violation(_ what: String, _ alert: UInt8 = Alert.unexpectedMessage) -> TLSError {
        TLSError(.protocolViolation, "peer broke the TLS protocol: \(what)", alert: alert)
    }
}
