import NIOCore
import NIOHPACK
import Testing

@testable import HBONE

@Suite("HTTP/2: header blocks that say everything as it is")
struct HTTP2PlainFieldsTests {
    private static let long = String(repeating: "x", count: 300)
    private static let request = HTTP2FieldEncoder(
        ConnectRequest(
            authority: "10.0.0.1:80", baggage: long, forwarded: "for=\"10.1.1.1:4000\"",
            traceparent: "00-00000000000000000000000000000001-0000000000000001-00")
    ).block
    private static let limit = 65536

    private func decoded(_ block: [UInt8]) throws -> [[String]] {
        var decoder = HPACKDecoder(allocator: ByteBufferAllocator())
        var buffer = ByteBuffer(bytes: block)
        return try decoder.decodeHeaders(from: &buffer).map { [$0.name, $0.value] }
    }

    @Test("what our encoder writes is read as the HPACK decoder reads it")
    func ours() throws {
        var blocks = [Self.request]
        for status in [200, 400, 401, 404, 429, 500, 503] {
            blocks.append(
                HTTP2FieldEncoder(ConnectReply(status: status, headers: [HeaderField("baggage", "a=b")])).block)
        }
        for length in [0, 1, 126, 127, 128, 254, 255, 16510] {
            let field = HeaderField("x", String(repeating: "y", count: length))
            blocks.append(HTTP2FieldEncoder(ConnectReply(status: 200, headers: [field])).block)
        }
        for block in blocks {
            let fields = try #require(HTTP2PlainFields.read(block, limit: Self.limit))
            #expect(fields.map { [$0.name, $0.value] } == (try decoded(block)))
        }
    }

    @Test(
        "everything else is left to the decoder",
        arguments: [
            ("Huffman coding", [0x00, 0x01, 0x78, 0x81, 0x1f]),
            ("a field that enters the table", [0x40, 0x01, 0x78, 0x01, 0x79]),
            ("a change of the table's size", [0x20, 0x88]),
            ("an entry of the dynamic table", [0xbe]),
            ("an entry whose value is not kept", [0x84]),
            ("a name by a number of several bytes", [0x0f, 0x10, 0x01, 0x79]),
            ("bytes beyond ASCII", [0x00, 0x01, 0x78, 0x01, 0xc3]),
            ("a name that is not all there", [0x00, 0x05, 0x78]),
            ("a value that is not there", [0x00, 0x01, 0x78]),
            ("a length that is not all there", [0x00, 0x7f, 0x80]),
            ("a length of more than three bytes", [0x00, 0x7f, 0x80, 0x80, 0x01]),
        ] as [(String, [UInt8])])
    func others(what: String, block: [UInt8]) {
        #expect(HTTP2PlainFields.read(block, limit: Self.limit) == nil, "\(what)")
        #expect(HTTP2PlainFields.read(Self.request + block, limit: Self.limit) == nil, "\(what)")
    }

    @Test("a list beyond the limit is left to the decoder, which refuses it")
    func limit() throws {
        let size = try decoded(Self.request).reduce(0) { $0 + $1[0].utf8.count + $1[1].utf8.count + 32 }
        #expect(HTTP2PlainFields.read(Self.request, limit: size) != nil)
        #expect(HTTP2PlainFields.read(Self.request, limit: size - 1) == nil)
    }

    @Test("a block cut short anywhere is never read past its end")
    func cut() {
        for count in 0..<Self.request.count {
            let fields = HTTP2PlainFields.read(Array(Self.request.prefix(count)), limit: Self.limit)
            // Between two fields it is whole.
            #expect((fields?.count ?? 0) < 5)
        }
    }
}
