import Testing

@testable import Netlink

@Suite("Netlink attributes")
struct AttributeTests {
    @Test("what is written is read back, padding apart")
    func roundTrip() {
        var writer = AttributeWriter()
        writer.put(1, string: "lo")
        writer.put(2, u32: 7)
        writer.put(3, bigEndian: UInt32(0x0102_0304))
        writer.nest(4) { inner in
            inner.put(1, u8: 9)
            inner.nest(2) { $0.put(1, u16: 513) }
        }
        #expect(writer.bytes.count % 4 == 0)
        let attributes = Attributes(writer.bytes[...])
        #expect(attributes.all.map(\.type) == [1, 2, 3, 4])
        #expect(attributes.string(1) == "lo")
        #expect(attributes.u32(2) == 7)
        #expect(attributes[3].map { Array($0) } == [1, 2, 3, 4])
        #expect(attributes.nested(4)?.u8(1) == 9)
        #expect(attributes.nested(4)?.nested(2)?.u16(1) == 513)
    }

    @Test(
        "lengths that lie end the reading",
        arguments: [
            [], [4], [4, 0, 1], [3, 0, 1, 0], [0, 0, 1, 0], [9, 0, 1, 0, 1, 2, 3, 4], [255, 255, 1, 0],
        ] as [[UInt8]])
    func hostile(bytes: [UInt8]) {
        #expect(Attributes(bytes[...]).all.isEmpty)
    }

    @Test("a good attribute before a bad one is kept")
    func partial() {
        let attributes = Attributes([5, 0, 1, 0, 42, 0, 0, 0, 200, 0, 2, 0, 1])
        #expect(attributes.u8(1) == 42)
        #expect(attributes[2] == nil)
        #expect(attributes.u32(1) == nil)
    }

    @Test("a comment is stored as the nft tool stores it")
    func comments() {
        let stored = NftablesWire.userdata(comment: "ab")
        #expect(stored == [0, 3, 97, 98, 0])
        #expect(NftablesWire.comment(userdata: stored[...]) == "ab")
        // Another entry first, then the comment; an entry that claims too much; none.
        #expect(NftablesWire.comment(userdata: [7, 1, 0, 0, 2, 97, 0]) == "a")
        #expect(NftablesWire.comment(userdata: [0, 9, 97]) == nil)
        #expect(NftablesWire.comment(userdata: []) == nil)
    }

    @Test(
        "every expression survives the wire",
        arguments: [
            .loadMeta(.mark), .loadMeta(.outputName), .setMark, .loadConntrack(.state), .loadConntrack(.mark),
            .setConntrackMark, .loadPayload(.network, offset: 16, length: 4),
            .bitwise(mask: [1, 2, 3, 4], xor: [0, 0, 0, 1]), .compare(.notEqual, [1, 2]), .immediate([0x3a, 0x99]),
            .redirect, .verdict(.accept), .verdict(.drop), .verdict(.returning), .verdict(.jump("there")),
            .verdict(.goto("there")), .counter,
        ] as [Nftables.Expression])
    func expressions(expression: Nftables.Expression) {
        var writer = AttributeWriter()
        expression.encode(into: &writer)
        #expect(Nftables.Expression(decoding: Attributes(writer.bytes[...])) == expression)
    }

    @Test("an expression that is not known keeps its name and bytes")
    func unknownExpression() {
        var writer = AttributeWriter()
        writer.put(1, string: "limit")
        writer.nest(2) { $0.put(1, u32: 5) }
        let read = Nftables.Expression(decoding: Attributes(writer.bytes[...]))
        #expect(read == .other(name: "limit", data: [8, 0, 1, 0, 5, 0, 0, 0]))
        #expect(read?.name == "limit")
    }
}
