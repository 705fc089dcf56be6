/// Bytes as they came, compared and told apart eight at a time.
package enum WireBytes {
    /// The library takes bytes one by one, and every resource of a large mesh comes by here. The load is checked against
    /// the bounds like any other; "unsafe" in its name is that it makes a value of any bytes, and of any eight bytes a
    /// number can be made.
    @inline(__always)
    private static func word(_ bytes: RawSpan, _ offset: Int) -> UInt64 {
        bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    package static func areEqual(_ left: Span<UInt8>, _ right: Span<UInt8>) -> Bool {
        guard left.count == right.count else { return false }
        var offset = 0
        while offset + 8 <= left.count {
            guard word(left.bytes, offset) == word(right.bytes, offset) else { return false }
            offset += 8
        }
        while offset < left.count {
            guard left[offset] == right[offset] else { return false }
            offset += 1
        }
        return true
    }

    /// A number for the bytes, evenly spread and another one with each seed, so that nobody can choose bytes that fall
    /// together.
    package static func digest(_ bytes: Span<UInt8>, seed: UInt64) -> UInt64 {
        var digest = seed ^ UInt64(bytes.count)
        var offset = 0
        while offset + 8 <= bytes.count {
            digest = fold(digest ^ word(bytes.bytes, offset), seed | 1)
            offset += 8
        }
        var rest: UInt64 = 0
        while offset < bytes.count {
            rest = rest << 8 | UInt64(bytes[offset])
            offset += 1
        }
        return fold(digest ^ rest, 0x9e37_79b9_7f4a_7c15) ^ seed
    }

    /// Both halves of the product: each bit of the result depends on all of both.
    @inline(__always)
    private static func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.high ^ product.low
    }
}

/// Texts that come again and again on the wire, held once and found by their bytes, so that no text is made only to see
/// that it is known. Bounded: what is too much is forgotten and held anew from then on.
struct TextCache: Sendable {
    static let limit = 65_536
    /// Shorter ones have no storage that could be shared.
    static let shortest = 16

    private struct Entry: Sendable {
        let text: String
        let digest: UInt64
    }

    private let seed: UInt64
    private var entries: [Entry] = []
    /// Open addressing: one more than the entry's index, or 0. Twice as many at least as there are entries.
    private var slots: [UInt32] = []

    init(seed: UInt64) { self.seed = seed }

    /// - Throws: ``ConversionError`` for bytes that are no UTF-8.
    mutating func text(_ bytes: Span<UInt8>, _ field: String) throws(ConversionError) -> String {
        guard bytes.count >= Self.shortest else { return try WireCursor.text(bytes, field) }
        let digest = WireBytes.digest(bytes, seed: seed)
        if slots.isEmpty { slots = [UInt32](repeating: 0, count: 256) }
        var slot = Int(truncatingIfNeeded: digest) & (slots.count - 1)
        while slots[slot] != 0 {
            let entry = entries[Int(slots[slot]) - 1]
            if entry.digest == digest, WireBytes.areEqual(entry.text.utf8Span.span, bytes) { return entry.text }
            slot = (slot + 1) & (slots.count - 1)
        }
        let text = try WireCursor.text(bytes, field)
        if entries.count >= Self.limit { forget() } else if entries.count * 2 >= slots.count { grow() }
        entries.append(Entry(text: text, digest: digest))
        place(entries.count - 1)
        return text
    }

    private mutating func place(_ index: Int) {
        var slot = Int(truncatingIfNeeded: entries[index].digest) & (slots.count - 1)
        while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = UInt32(index + 1)
    }

    private mutating func grow() {
        slots = [UInt32](repeating: 0, count: slots.count * 2)
        for index in entries.indices { place(index) }
    }

    private mutating func forget() {
        entries.removeAll(keepingCapacity: true)
        slots = [UInt32](repeating: 0, count: slots.count)
    }
}
