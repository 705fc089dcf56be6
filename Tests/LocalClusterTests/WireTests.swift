import Addressing
import Testing

@testable import LocalCluster

@Suite("What is read from the wire")
struct WireTests {
    private let client = Endpoint(IPAddress(10, 201, 1, 2), 40000)
    private let server = Endpoint(IPAddress(10, 201, 2, 2), 15008)

    private func segment(
        _ sequence: UInt32, _ text: String, _ flags: TCPSegment.Flags = .acknowledgement
    ) -> TCPSegment {
        TCPSegment(source: client, destination: server, sequence: sequence, flags: flags, payload: Array(text.utf8))
    }

    // MARK: Frames

    /// An Ethernet frame with a TCP segment, padded as short frames are.
    private func frame(v6: Bool, payload: String, options: Int = 0, padding: Int = 0) -> [UInt8] {
        let body = Array(payload.utf8)
        let tcp: [UInt8] =
            [0x9c, 0x40, 0x3a, 0xa0, 0, 0, 1, 0, 0, 0, 0, 0, UInt8((20 + options) / 4) << 4, 0x18, 0, 0, 0, 0, 0, 0]
            + Array(repeating: 1, count: options) + body
        let link = [UInt8](repeating: 2, count: 12)
        if v6 {
            let from = [0xfd, 0] + [UInt8](repeating: 0, count: 13) + [1]
            let to = [0xfd, 0] + [UInt8](repeating: 0, count: 13) + [2]
            return link + [0x86, 0xdd, 0x60, 0, 0, 0, UInt8(tcp.count >> 8), UInt8(tcp.count & 255), 6, 64] + from + to
                + tcp + [UInt8](repeating: 0, count: padding)
        }
        let total = 20 + tcp.count
        return link + [0x08, 0, 0x45, 0, UInt8(total >> 8), UInt8(total & 255), 0, 0, 0x40, 0, 64, 6, 0, 0]
            + [10, 201, 1, 2, 10, 201, 2, 2] + tcp + [UInt8](repeating: 0, count: padding)
    }

    @Test("segments of both families, with options and padding", arguments: [false, true], [0, 12])
    func frames(v6: Bool, options: Int) throws {
        let found = try #require(TCPSegment(frame: frame(v6: v6, payload: "hello", options: options, padding: 6)[...]))
        #expect(found.source.port == 40000)
        #expect(found.destination.port == 15008)
        #expect(found.destination.address == (v6 ? IPAddress("fd00::2") : IPAddress("10.201.2.2")))
        #expect(found.sequence == 256)
        #expect(found.flags.contains(.acknowledgement))
        #expect(String(decoding: found.payload, as: UTF8.self) == "hello")
    }

    @Test func whatIsCutOrNoTCPIsNoSegment() {
        let whole = frame(v6: false, payload: "hello")
        for length in 0..<whole.count { #expect(TCPSegment(frame: whole[..<length]) == nil) }
        var udp = whole
        udp[23] = 17
        #expect(TCPSegment(frame: udp[...]) == nil)
        var fragment = whole
        fragment[20] = 0x20
        #expect(TCPSegment(frame: fragment[...]) == nil)
        var arp = whole
        arp[13] = 6
        #expect(TCPSegment(frame: arp[...]) == nil)
        let whole6 = frame(v6: true, payload: "hello")
        for length in 0..<whole6.count { #expect(TCPSegment(frame: whole6[..<length]) == nil) }
    }

    // MARK: Streams

    @Test("segments are put in order", arguments: [[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 2, 1], [0, 1, 1, 2, 3, 2]])
    func order(indices: [Int]) {
        let parts = [segment(99, "", .syn), segment(100, "se"), segment(102, "cr"), segment(104, "et")]
        let traffic = WireTraffic(indices.map { parts[$0] })
        #expect(traffic.streams.count == 1)
        #expect(traffic.streams.first?.fromStart == true)
        #expect(traffic.streams.first?.hasGap == false)
        #expect(traffic.streams.first.map { String(decoding: $0.bytes, as: UTF8.self) } == "secret")
        // No packet holds it, the stream does.
        #expect(traffic.occurrences(of: "secret") == 1)
        #expect(traffic.occurrences(of: "secrets") == 0)
    }

    @Test func numbersGoAround() {
        let traffic = WireTraffic([segment(.max - 1, "abc"), segment(1, "def")])
        #expect(traffic.streams.first.map { String(decoding: $0.bytes, as: UTF8.self) } == "abcdef")
    }

    @Test func overlappingSegmentsCountOnce() {
        let traffic = WireTraffic([segment(10, "abcd"), segment(12, "cdef")])
        #expect(traffic.streams.first.map { String(decoding: $0.bytes, as: UTF8.self) } == "abcdef")
    }

    @Test func aGapIsSaid() {
        let traffic = WireTraffic([segment(10, "ab"), segment(20, "cd")])
        #expect(traffic.streams.first?.hasGap == true)
        #expect(traffic.streams.first.map { String(decoding: $0.bytes, as: UTF8.self) } == "abcd")
    }

    @Test func theSamePortsAgainAreAnotherConnection() {
        let traffic = WireTraffic([
            segment(1, "", .syn), segment(2, "old"), segment(900, "", .syn), segment(901, "new"),
        ])
        #expect(traffic.streams.map { String(decoding: $0.bytes, as: UTF8.self) } == ["old", "new"])
    }

    @Test func packetsWithATextAreCounted() {
        let traffic = WireTraffic([segment(1, "a marker"), segment(9, "no"), segment(11, "marker again")])
        #expect(traffic.occurrences(of: "marker") == 2)
        #expect(traffic.bytes(port: 15008) == 22)
        #expect(traffic.bytes(port: 8080) == 0)
        #expect(traffic.segments == 3)
    }

    // MARK: TLS

    private func record(_ type: UInt8, _ length: Int) -> [UInt8] {
        [type, 3, 3, UInt8(length >> 8), UInt8(length & 255)] + [UInt8](repeating: 7, count: length)
    }

    @Test func recordsAreCounted() {
        let records = TLSRecords(record(22, 100) + record(20, 1) + record(23, 16640) + record(23, 5))
        #expect(records.handshake == 1)
        #expect(records.applicationData == 2)
        #expect(records.other == 1)
        #expect(records.count == 4)
        #expect(records.isPure)
        #expect(records.bytes == 4 * 5 + 100 + 1 + 16640 + 5)
    }

    @Test("a last record may be cut", arguments: [1, 3, 5, 50])
    func cut(length: Int) {
        let records = TLSRecords(record(23, 10) + record(23, 200).prefix(length))
        #expect(records.isPure)
        #expect(records.count == 1)
    }

    @Test(
        "what is not TLS is seen",
        arguments: [
            Array("GET / HTTP/1.1\r\n".utf8), [23, 3, 3, 0x50, 0] + [UInt8](repeating: 0, count: 0x5000),
            [19, 3, 3, 0, 0],
            [23, 2, 0, 0, 1, 0], [23, 3, 3, 0, 1, 9, 9], [80],
        ])
    func impure(bytes: [UInt8]) {
        #expect(!TLSRecords(bytes).isPure)
    }
}
