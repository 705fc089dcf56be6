import Addressing
import Testing

@testable import DNS

/// The message codec: RFC 1035, RFC 6891.
@Suite struct MessageTests {
    @Test(arguments: ["a", "a.b.c", "_80._tcp.x", "*.example.com", String(repeating: "a", count: 63)])
    func namesGoThereAndBack(_ text: String) { #expect(DNSName(text)?.hostname == text) }

    @Test(arguments: ["", "."]) func theRoot(_ text: String) { #expect(DNSName(text) == .root) }

    @Test(arguments: [
        "a..b", ".a", "..", String(repeating: "a", count: 64),
        Array(repeating: String(repeating: "a", count: 63), count: 4).joined(separator: "."),
    ]) func whatIsNoName(_ text: String) { #expect(DNSName(text) == nil) }

    @Test func theLongestName() {
        let text = (Array(repeating: String(repeating: "a", count: 63), count: 3) + [String(repeating: "b", count: 61)])
            .joined(separator: ".")
        #expect(DNSName(text)?.wire.count == 255)
        #expect(DNSName(text + "b") == nil)
    }

    @Test func namesAreEqualWhateverTheirCase() {
        #expect(DNSName("WWW.Example.COM") == DNSName("www.example.com."))
        #expect(name("a.cluster.local").isIn(name("cluster.local")))
        #expect(!name("acluster.local").isIn(name("cluster.local")))
        #expect(name("x").isIn(.root))
    }

    /// A response with two records whose names point back.
    static let compressed: [UInt8] =
        [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0] + spelled("www.example.com") + [0, 1, 0, 1]
        + [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6] + [3, 0x63, 0x64, 0x6e, 0xc0, 16]
        + [0xc0, 45, 0, 1, 0, 1, 0, 0, 0, 10, 0, 4, 1, 2, 3, 4]

    @Test func compressionIsFollowed() throws {
        let message = try DNSMessage(parsing: Self.compressed)
        #expect(try message.name(of: message.records[0]) == name("www.example.com"))
        #expect(try message.target(of: message.records[0]) == name("cdn.example.com"))
        #expect(try message.name(of: message.records[1]) == name("cdn.example.com"))
        #expect(message.address(of: message.records[1]) == IPAddress(1, 2, 3, 4))
    }

    @Test func pointersThatDoNotLeadBackAreRefused() {
        for target in [12, 28, 29, 40] as [UInt8] {
            var bytes = queryBytes("www.example.com")
            bytes.replaceSubrange(12..<29, with: [3, 0x77, 0x77, 0x77, 0xc0, target])
            #expect(throws: DNSError.self) { try DNSMessage(parsing: bytes) }
        }
        // Into the header, whose first bytes here read as a name.
        let header: [UInt8] = [2, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 1, 0, 1]
        #expect(throws: DNSError.self) { try DNSMessage(parsing: header) }
        // Two that point to each other.
        let loop: [UInt8] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 14, 0xc0, 12, 0, 1, 0, 1]
        #expect(throws: DNSError.self) { try DNSMessage(parsing: loop) }
    }

    @Test func namesThatUnfoldBeyondTheirLimitAreRefused() {
        // Each name has one label more than the one it points to.
        var bytes: [UInt8] = [0, 1, 0x81, 0x80, 0, 0, 0, 6, 0, 0, 0, 0]
        var last: Int?
        for _ in 0..<6 {
            let start = bytes.count
            bytes += [63] + Array(repeating: 0x61, count: 63)
            bytes += last.map { [0xc0 | UInt8($0 >> 8), UInt8($0 & 255)] } ?? [0]
            bytes += [0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4]
            last = start
        }
        let message = try? DNSMessage(parsing: bytes)
        #expect(throws: DNSError.self) {
            let message = try DNSMessage(parsing: bytes)
            for record in message.records { _ = try message.name(of: record) }
        }
        #expect(message?.records.count == 6)
    }

    @Test func everyPrefixOfAMessageIsRefused() throws {
        _ = try DNSMessage(parsing: Self.compressed)
        for count in 0..<Self.compressed.count {
            #expect(throws: DNSError.self) { try DNSMessage(parsing: Array(Self.compressed[..<count])) }
        }
        #expect(throws: DNSError.self) { try DNSMessage(parsing: Self.compressed + [0]) }
    }

    @Test func announcementsBeyondTheBytesAreRefusedAtOnce() {
        let bytes: [UInt8] = [0, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
        #expect(throws: DNSError.self) { try DNSMessage(parsing: bytes) }
    }

    @Test func anyBytesAreTakenWithoutHarm() throws {
        var random = FixedRandom(7)
        let good = Self.compressed
        for _ in 0..<20_000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if Bool.random(using: &random) { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random)) }
            exercise(bytes)
        }
    }

    /// What a fuzzer does, too.
    private func exercise(_ bytes: [UInt8]) {
        switch ReceivedQuery(bytes) {
        case .query(let query), .foreign(let query):
            #expect(!query.failure(.serverFailure).isEmpty)
        case .reject(let reply, _): #expect(reply.count >= 12)
        case .drop: break
        }
        guard let message = try? DNSMessage(parsing: bytes) else { return }
        for record in message.records {
            _ = try? message.name(of: record)
            _ = try? message.target(of: record)
            _ = try? message.service(of: record)
        }
        if let asked = parsed(queryBytes("www.example.com")), let reply = UpstreamReply(bytes, to: asked, id: 0x1234) {
            #expect(reply.bytes(for: asked, limit: 512).count <= max(512, bytes.count))
            _ = reply.addresses(of: name("www.example.com"))
        }
    }
}
