import Testing

@testable import Mesh

@Suite("Texts and bytes of the wire, held once")
struct TextCacheTests {
    @Test("an equal text is the same one, and each text is its own", arguments: [0, 1, 15, 16, 17, 40])
    func sharing(length: Int) throws {
        var cache = TextCache(seed: 7)
        let text = String(repeating: "x", count: length)
        #expect(try cache.text(Array(text.utf8).span, "f") == text)
        // Many others, which make the table grow, among them such that differ in the first or last byte only.
        for index in 0..<2000 {
            let other = "\(index % 10)\(text)/\(index)"
            #expect(try cache.text(Array(other.utf8).span, "f") == other)
        }
        #expect(try cache.text(Array(text.utf8).span, "f") == text)
    }

    @Test("what is no UTF-8 is refused by its field, short or long", arguments: [1, 40])
    func invalid(length: Int) {
        var cache = TextCache(seed: 7)
        let bytes = [UInt8](repeating: 0xff, count: length)
        #expect(throws: ConversionError("node", "is not UTF-8")) { try cache.text(bytes.span, "node") }
    }

    @Test("more than the limit is forgotten, and right all the same")
    func limit() throws {
        var cache = TextCache(seed: 7)
        for round in 0..<2 {
            for index in 0..<(TextCache.limit + 100) {
                let text = "a-long-enough-name-\(index)"
                let held = try cache.text(Array(text.utf8).span, "f")
                if index % 1000 == round { #expect(held == text) }
            }
        }
    }

    @Test("bytes are equal when all are, and the digest tells them apart by every byte and by the length")
    func digests() {
        let bytes = (0..<41).map { UInt8($0) }
        let digest = WireBytes.digest(bytes.span, seed: 99)
        #expect(WireBytes.areEqual(bytes.span, Array(bytes).span))
        #expect(WireBytes.digest(bytes.span, seed: 98) != digest)
        for index in bytes.indices {
            var other = bytes
            other[index] ^= 0x80
            #expect(!WireBytes.areEqual(bytes.span, other.span))
            #expect(WireBytes.digest(other.span, seed: 99) != digest)
            let short = Array(bytes[..<index])
            #expect(!WireBytes.areEqual(bytes.span, short.span))
            #expect(WireBytes.digest(short.span, seed: 99) != digest)
        }
    }
}
