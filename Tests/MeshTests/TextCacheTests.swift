import Testing

@testable import Mesh

@Suite("Texts and bytes of the wire, held once")
struct TextCacheTests {
    /// By arrays: what the tests expect cannot hold a span.
    private func text(_ cache: inout TextCache, _ bytes: [UInt8]) throws -> String {
        try cache.text(bytes.span, "node")
    }
    private func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool { WireBytes.areEqual(left.span, right.span) }
    private func digest(_ bytes: [UInt8], seed: UInt64 = 99) -> UInt64 { WireBytes.digest(bytes.span, seed: seed) }

    @Test("an equal text is the same one, and each text is its own", arguments: [0, 1, 15, 16, 17, 40])
    func sharing(length: Int) throws {
        var cache = TextCache(seed: 7)
        let wanted = String(repeating: "x", count: length)
        // Many others, which make the table grow, among them such that differ in the first or last byte only.
        let others = (0..<2000).map { "\($0 % 10)\(wanted)/\($0)" }
        for expected in [wanted] + others + [wanted] + others {
            let held = try text(&cache, Array(expected.utf8))
            #expect(held == expected)
        }
    }

    @Test("what is no UTF-8 is refused by its field, short or long", arguments: [1, 40])
    func invalid(length: Int) {
        var cache = TextCache(seed: 7)
        #expect(throws: ConversionError("node", "is not UTF-8")) {
            try text(&cache, [UInt8](repeating: 0xff, count: length))
        }
    }

    @Test("more than the limit is forgotten, and right all the same")
    func limit() throws {
        var cache = TextCache(seed: 7)
        for index in 0..<(TextCache.limit + 2000) {
            let expected = "a-long-enough-name-\(index % (TextCache.limit + 100))"
            let held = try text(&cache, Array(expected.utf8))
            if index % 1000 == 0 { #expect(held == expected) }
        }
    }

    @Test("bytes are equal when all are, and the digest tells them apart by every byte and by the length")
    func digests() {
        let bytes = (0..<41).map { UInt8($0) }
        let whole = digest(bytes)
        #expect(areEqual(bytes, Array(bytes)) && digest(bytes, seed: 98) != whole)
        for index in bytes.indices {
            var other = bytes
            other[index] ^= 0x80
            #expect(!areEqual(bytes, other) && digest(other) != whole)
            let short = Array(bytes[..<index])
            #expect(!areEqual(bytes, short) && digest(short) != whole)
        }
    }
}
