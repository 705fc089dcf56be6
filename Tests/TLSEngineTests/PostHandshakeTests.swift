import Testing

@testable import TLSEngine

/// What RFC 8446 forbids after the handshake, sent by a peer that holds the right keys.
@Suite("TLS after the handshake: records a good peer does not send")
struct PostHandshakeTests {
    let pair: SessionPair

    init() throws {
        pair = try SessionPair(TestAuthority())
        pair.handshake()
        try #require(pair.server.session.state == .established)
    }

    private static let padded = [UInt8](repeating: 7, count: 10) + [23]

    /// Type, content and the alert that answers it, in whose direction it goes.
    static let offences: [(what: String, type: UInt8, content: [UInt8], alert: UInt8)] = [
        ("an empty handshake record (5.1)", 22, [], Alert.unexpectedMessage),
        ("an empty alert (6)", 21, [], Alert.decodeError),
        ("two alerts in one record (5.1)", 21, [1, 0, 1, 0], Alert.decodeError),
        ("a record that is all padding (5.4)", 0, [0, 0, 0], Alert.unexpectedMessage),
        ("a type nobody knows", 99, [1], Alert.unexpectedMessage),
        ("change_cipher_spec under protection (5)", 20, [1], Alert.unexpectedMessage),
        ("a KeyUpdate with data behind it (5.1)", 22, [24, 0, 0, 1, 0, 4], Alert.unexpectedMessage),
        ("a KeyUpdate that asks for something else (4.6.3)", 22, [24, 0, 0, 1, 2], Alert.illegalParameter),
        ("a KeyUpdate of another length", 22, [24, 0, 0, 2, 0, 0], Alert.decodeError),
        (
            "a certificate request nobody offered to answer (4.6.2)", 22, [13, 0, 0, 3, 0, 0, 0],
            Alert.unexpectedMessage
        ),
        ("a finished message again", 22, [20, 0, 0, 32], Alert.unexpectedMessage),
        ("more than 2^14 + 1 bytes with padding (5.4)", 0, padded + [UInt8](repeating: 0, count: 16375), 22),
    ]

    @Test("is refused with its alert", arguments: 0..<offences.count)
    func offence(index: Int) throws {
        let (what, type, content, alert) = Self.offences[index]
        let answer = pair.server.receive(pair.client.sealRecord(type, content))
        #expect(pair.server.failure?.code == .protocolViolation, "\(what)")
        #expect(pair.server.failure?.alert == alert, "\(what)")
        pair.client.receive(answer)
        #expect(pair.client.failure?.alert == alert, "the peer is told: \(what)")
        #expect(pair.server.plaintext.isEmpty)
    }

    @Test("padding up to the limit is no offence")
    func fullPadding() {
        pair.server.receive(pair.client.sealRecord(0, Self.padded + [UInt8](repeating: 0, count: 16373)))
        #expect(pair.server.failure == nil)
        #expect(pair.server.plaintext == [UInt8](repeating: 7, count: 10))
    }

    @Test("a ticket is for clients: they skip it, a server refuses it (4.6.1)")
    func ticket() {
        let ticket: [UInt8] = [4, 0, 0, 20] + [UInt8](repeating: 1, count: 20)
        pair.client.receive(pair.server.sealRecord(22, ticket))
        #expect(pair.client.failure == nil)
        pair.server.receive(pair.client.sealRecord(22, ticket))
        #expect(pair.server.failure?.alert == Alert.unexpectedMessage)
    }

    @Test("a handshake message may be cut into records, but nothing may come in between (5.1)")
    func interrupted() {
        let ticket: [UInt8] = [4, 0, 0, 20] + [UInt8](repeating: 1, count: 20)
        for piece in [ticket[..<3], ticket[3..<10], ticket[10...]] {
            pair.client.receive(pair.server.sealRecord(22, Array(piece)))
        }
        #expect(pair.client.failure == nil)
        pair.client.receive(pair.server.sealRecord(22, Array(ticket[..<10])))
        pair.client.receive(pair.server.sealRecord(23, [1]))
        #expect(pair.client.failure?.alert == Alert.unexpectedMessage)
    }

    @Test("tickets and key updates without end are refused")
    func floods() {
        for _ in 0..<100 { pair.client.receive(pair.server.sealRecord(22, [4, 0, 0, 1, 0])) }
        #expect(pair.client.failure?.code == .protocolViolation)
    }

    @Test("a record that announces more than 2^14 + 256 bytes is refused from its header alone (5.2)")
    func announcedTooLong() {
        pair.server.receive([23, 3, 3, 0x41, 0x01])
        #expect(pair.server.failure?.alert == Alert.recordOverflow)
    }
}
