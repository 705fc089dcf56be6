import Addressing
import Testing

@testable import DNS

/// What is done with a query before its name counts, and how replies keep to what was asked.
@Suite struct QueryTests {
    private func kind(_ bytes: [UInt8]) -> String {
        switch ReceivedQuery(bytes) {
        case .query: "query"
        case .foreign: "foreign"
        case .reject(let reply, let code): "\(code) \(line(reply))"
        case .drop: "drop"
        }
    }

    @Test func queriesAreTakenAndOthersAreNot() {
        #expect(kind(queryBytes("a.b")) == "query")
        #expect(kind(queryBytes("a.b", edns: 1232, dnssec: true)) == "query")
        // UPDATE (5) and NOTIFY (4) are somebody else's.
        #expect(kind(queryBytes("a.b", flags: 0x2800)) == "foreign")
        #expect(kind(queryBytes("a.b", flags: 0x2000)) == "foreign")
        // Never an answer to an answer, nor to what has no id.
        #expect(kind(queryBytes("a.b", flags: 0x8100)) == "drop")
        #expect(kind([0, 1, 0]) == "drop")
        #expect(kind([]) == "drop")
    }

    @Test func whatCannotBeReadIsAFormatError() throws {
        var noQuestion = queryBytes("a.b")
        noQuestion[5] = 0
        for bytes in [noQuestion, Array(queryBytes("a.b").dropLast()), queryBytes("a.b") + [1]] {
            guard case .reject(let reply, .formatError) = ReceivedQuery(bytes) else {
                Issue.record("taken")
                continue
            }
            let message = try DNSMessage(parsing: reply)
            #expect(message.header.id == 0x1234 && message.header.isResponse && message.responseCode == .formatError)
        }
        var twoOptions = queryBytes("a.b", edns: 1232)
        twoOptions += twoOptions.suffix(11)
        twoOptions[11] = 2
        #expect(kind(twoOptions).hasPrefix("FORMERR"))
    }

    /// RFC 6891 section 6.1.3.
    @Test func aLaterVersionOfEDNSIsAnsweredWithBADVERS() throws {
        guard case .reject(let reply, .badVersion) = ReceivedQuery(queryBytes("a.b", edns: 1232, ednsVersion: 1)) else {
            Issue.record("not rejected")
            return
        }
        let message = try DNSMessage(parsing: reply)
        #expect(message.responseCode == .badVersion)
        #expect(message.edns?.version == 0)
        #expect(message.questions.count == 1)
    }

    @Test func ednsIsAnsweredOnlyWhereItWasAsked() throws {
        let plain = try #require(parsed(queryBytes("a.b")))
        #expect(try DNSMessage(parsing: plain.failure(.serverFailure)).edns == nil)
        let extended = try #require(parsed(queryBytes("a.b", edns: 1232, dnssec: true)))
        let edns = try #require(try DNSMessage(parsing: extended.failure(.serverFailure)).edns)
        #expect(edns.payloadSize == 4096 && edns.version == 0 && edns.dnssecOK)
    }

    @Test(
        arguments: [
            (nil, 512), (0, 512), (100, 512), (512, 512), (1232, 1232), (4096, 4096), (65535, 4096),
        ] as [(UInt16?, Int)])
    func theClientsLimitIsKept(_ payload: UInt16?, _ limit: Int) throws {
        #expect(try #require(parsed(queryBytes("a.b", edns: payload))).datagramLimit == limit)
    }

    @Test func theQuestionGoesBackInItsOwnLetters() throws {
        let asked = try #require(parsed(queryBytes("wWw.ExAmple.coM", edns: 1232)))
        let reply = Answer(
            records: [AnswerRecord(name("www.example.com"), .address(IPAddress(1, 2, 3, 4)))], zone: .root, host: ""
        ).reply(to: asked, limit: 512, serial: 1)
        #expect(Array(reply[12..<29]) == spelled("wWw.ExAmple.coM"))
        // The record's name is the question's.
        #expect(Array(reply[33..<35]) == [0xc0, 12])
        #expect(line(reply) == "NOERROR aa: www.example.com A 1.2.3.4")
    }

    /// 60 addresses do not fit into 512 bytes: as many as fit, and the mark that there are more (RFC 2181 section 9).
    @Test(arguments: [nil, 1232] as [UInt16?])
    func longAnswersAreCutAtARecord(_ payload: UInt16?) throws {
        let asked = try #require(parsed(queryBytes("many.example.com", edns: payload)))
        let records = (0..<200).map {
            AnswerRecord(name("many.example.com"), .address(IPAddress(10, 0, 0, UInt8($0))))
        }
        let reply = Answer(records: records, zone: .root, host: "").reply(
            to: asked, limit: asked.datagramLimit, serial: 1)
        let message = try DNSMessage(parsing: reply)
        #expect(reply.count <= asked.datagramLimit && reply.count > asked.datagramLimit - 32)
        #expect(message.header.isTruncated)
        #expect((message.edns != nil) == (payload != nil))
        let whole = Answer(records: records, zone: .root, host: "").reply(to: asked, limit: 65535, serial: 1)
        let all = try DNSMessage(parsing: whole)
        #expect(!all.header.isTruncated && all.records.filter { $0.type == .a }.count == 200)
    }

    @Test func anotherIdGoesUpstream() throws {
        let asked = try #require(parsed(queryBytes("a.b", id: 7)))
        #expect(Array(asked.bytes(id: 0xbeef)[0..<2]) == [0xbe, 0xef])
        #expect(asked.bytes(id: 0xbeef).dropFirst(2) == asked.bytes.dropFirst(2))
    }
}
