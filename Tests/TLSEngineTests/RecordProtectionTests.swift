import Testing

@testable import TLSEngine

@Suite("Record protection by itself")
struct RecordProtectionTests {
    private func bytes(_ hexadecimal: String) -> [UInt8] {
        let digits = Array(hexadecimal.filter { !$0.isWhitespace })
        return stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) }
    }

    private func protection(_ suite: CipherSuite, _ secret: [UInt8]) throws -> RecordProtection? {
        guard let secret = TrafficSecret(secret) else { return nil }
        return RecordProtection(suite, secret)
    }

    private func seal(_ protection: inout RecordProtection, _ type: UInt8, _ content: [UInt8]) -> [UInt8] {
        var record = [UInt8](repeating: 0, count: content.count + RecordProtection.overhead)
        let sealed = record.withUnsafeMutableBytes { target in
            content.withUnsafeBytes { protection.seal(type, $0, to: target.baseAddress!) }
        }
        return sealed ? record : []
    }

    private func open(_ protection: inout RecordProtection, _ record: [UInt8]) -> (content: [UInt8], type: UInt8)? {
        var content = [UInt8](repeating: 0, count: record.count)
        let opened = content.withUnsafeMutableBytes { target in
            record.withUnsafeBytes { protection.open($0, into: target) }
        }
        return opened.map { (Array(content[..<$0.length]), $0.type) }
    }

    @Test("the record of the example in RFC 8448 section 3")
    func example() throws {
        let secret = bytes("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5")
        let record = bytes(
            """
            1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f
            5a6292a2977014bd1e3deae63aeebb21694915e4
            """)
        var sender = try protection(.aes128GCM, secret)!
        #expect(seal(&sender, 23, Array(0...49)) == record)
        var receiver = try protection(.aes128GCM, secret)!
        let opened = open(&receiver, record)
        #expect(opened?.content == Array(0...49) && opened?.type == 23)
        // The same record again would be the second one, and is not.
        #expect(open(&receiver, record) == nil)
    }

    @Test("padding goes, whatever its length", arguments: [0, 1, 100, 16000])
    func padding(count: Int) throws {
        let secret = [UInt8](repeating: 7, count: 32)
        var sender = try protection(.aes128GCM, secret)!
        var receiver = try protection(.aes128GCM, secret)!
        // A type of 0 makes the last byte one more byte of padding.
        let padding = [UInt8](repeating: 0, count: count)
        let padded = open(&receiver, seal(&sender, 0, [1, 2, 0, 22] + padding))
        #expect(padded?.content == [1, 2, 0] && padded?.type == 22)
        let nothing = open(&receiver, seal(&sender, 0, padding))
        #expect(nothing?.content == [] && nothing?.type == 0)
    }

    @Test("both ends go on together after an update, and apart after only one", arguments: [0x1301, 0x1302])
    func update(suite number: UInt16) throws {
        let suite = try #require(CipherSuite(rawValue: number))
        let secret = [UInt8](repeating: 9, count: suite.hashLength)
        var sender = try protection(suite, secret)!
        var receiver = try protection(suite, secret)!
        #expect(open(&receiver, seal(&sender, 23, [1]))?.content == [1])
        let updated = sender.update() && receiver.update()
        #expect(updated)
        #expect(open(&receiver, seal(&sender, 23, [2]))?.content == [2])
        let once = sender.update()
        #expect(once)
        #expect(open(&receiver, seal(&sender, 23, [3])) == nil)
    }
}
