import Addressing
import Testing

@testable import DNS

/// Which replies of a name server are believed, and what the client gets of them.
@Suite struct UpstreamReplyTests {
    private let asked = parsed(queryBytes("www.example.com", id: 99))

    /// A reply to `asked` sent with id 0x1234.
    private func reply(
        id: UInt16 = 0x1234, flags: UInt16 = 0x8580, name: String = "www.example.com", type: RecordType = .a,
        records: [UInt8] = [], count: UInt8 = 0, opt: Bool = false
    ) -> [UInt8] {
        var bytes = queryBytes(name, type, id: id, flags: flags)
        bytes[7] = count
        bytes += records
        if opt {
            bytes += [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]
            bytes[11] = 1
        }
        return bytes
    }

    private func record(_ last: UInt8, seconds: UInt8 = 60) -> [UInt8] {
        [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, seconds, 0, 4, 10, 0, 0, last]
    }

    @Test func onlyTheReplyToTheQuestionIsBelieved() throws {
        let asked = try #require(asked)
        #expect(UpstreamReply(reply(), to: asked, id: 0x1234) != nil)
        #expect(UpstreamReply(reply(name: "WWW.example.COM"), to: asked, id: 0x1234) != nil)
        #expect(UpstreamReply(reply(id: 0x1235), to: asked, id: 0x1234) == nil)
        #expect(UpstreamReply(reply(name: "www.example.org"), to: asked, id: 0x1234) == nil)
        #expect(UpstreamReply(reply(type: .aaaa), to: asked, id: 0x1234) == nil)
        // Not a response; another opcode; cut; something behind it.
        #expect(UpstreamReply(reply(flags: 0x0100), to: asked, id: 0x1234) == nil)
        #expect(UpstreamReply(reply(flags: 0xa800), to: asked, id: 0x1234) == nil)
        #expect(UpstreamReply(Array(reply().dropLast()), to: asked, id: 0x1234) == nil)
        #expect(UpstreamReply(reply() + [0], to: asked, id: 0x1234) == nil)
        #expect(UpstreamReply([], to: asked, id: 0x1234) == nil)
    }

    @Test func aReplyWithoutTheQuestionIsBelievedOnlyAsAnError() throws {
        let asked = try #require(asked)
        var header: [UInt8] = [0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(UpstreamReply(header, to: asked, id: 0x1234)?.isFailure == true)
        header[3] = 0x80
        #expect(UpstreamReply(header, to: asked, id: 0x1234) == nil)
    }

    @Test("13. what is passed on has the client's id and no authority")
    func theClientGetsItsOwnIdAndNoAuthority() throws {
        let asked = try #require(parsed(queryBytes("wwW.exaMple.com", id: 99)))
        let upstream = try #require(
            UpstreamReply(reply(records: record(1), count: 1), to: asked, id: 0x1234))
        let bytes = upstream.bytes(for: asked, limit: 512)
        #expect(Array(bytes[0..<2]) == [0, 99])
        #expect(Array(bytes[12..<29]) == spelled("wwW.exaMple.com"))
        #expect(line(bytes) == "NOERROR: www.example.com A 10.0.0.1")
    }

    @Test func unknownTypesPassByteForByte() throws {
        let asked = try #require(parsed(queryBytes("x.example.com", RecordType(rawValue: 65280), id: 7)))
        let record: [UInt8] = [0xc0, 12, 0xff, 0, 0, 1, 0, 0, 0, 9, 0, 3, 0xde, 0xad, 0xbf]
        var bytes = queryBytes("x.example.com", RecordType(rawValue: 65280), id: 0x1234, flags: 0x8180)
        bytes[7] = 1
        bytes += record
        let passed = try #require(UpstreamReply(bytes, to: asked, id: 0x1234)).bytes(for: asked, limit: 512)
        #expect(passed.dropFirst(2) == bytes.dropFirst(2))
    }

    @Test func whatIsTooLongForTheClientIsCutAndMarked() throws {
        let asked = try #require(asked)
        let many = (0..<60).flatMap { record(UInt8($0)) }
        let upstream = try #require(
            UpstreamReply(reply(records: many, count: 60, opt: true), to: asked, id: 0x1234))
        let bytes = upstream.bytes(for: asked, limit: 512)
        let message = try DNSMessage(parsing: bytes)
        #expect(bytes.count <= 512 && message.header.isTruncated)
        #expect(message.edns != nil && message.records.count == 1)
        #expect(upstream.bytes(for: asked, limit: 65535).count == upstream.message.bytes.count)
    }

    @Test func addressesAreTakenThroughAliasesOnly() throws {
        let asked = try #require(asked)
        let alias: [UInt8] = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5, 0, 6, 3, 0x63, 0x64, 0x6e, 0xc0, 16]
        let target: [UInt8] = [0xc0, 45, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 2]
        let stranger: [UInt8] = spelled("evil.example.com") + [0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 6, 6, 6, 6]
        let upstream = try #require(
            UpstreamReply(reply(records: alias + target + stranger, count: 3), to: asked, id: 0x1234))
        let found = upstream.addresses(of: name("www.example.com"))
        #expect(found.addresses == [IPAddress(10, 0, 0, 2)])
        #expect(found.seconds == 5)
    }

    @Test func aliasesThatGoRoundEnd() throws {
        let asked = try #require(asked)
        let alias: [UInt8] = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5, 0, 2, 0xc0, 12]
        let upstream = try #require(UpstreamReply(reply(records: alias, count: 1), to: asked, id: 0x1234))
        #expect(upstream.addresses(of: name("www.example.com")).addresses.isEmpty)
    }
}
