/// Reads a message from its first byte on. Everything is bounded: a name by 255 bytes, a compression pointer by having
/// to point before the bytes it was reached from, so no chain of them comes to a place twice.
struct DNSReader {
    let bytes: [UInt8]
    private(set) var offset: Int

    init(_ bytes: [UInt8], at offset: Int = 0) {
        self.bytes = bytes
        self.offset = offset
    }

    var left: Int { bytes.count - offset }

    private func truncated() -> DNSError { DNSError(.truncated, "the message ends at byte \(bytes.count), too early") }

    mutating func byte() throws(DNSError) -> UInt8 {
        guard left >= 1 else { throw truncated() }
        defer { offset += 1 }
        return bytes[offset]
    }

    mutating func number16() throws(DNSError) -> UInt16 {
        guard left >= 2 else { throw truncated() }
        defer { offset += 2 }
        return UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
    }

    mutating func number32() throws(DNSError) -> UInt32 {
        let high = try number16()
        return UInt32(high) << 16 | UInt32(try number16())
    }

    mutating func skip(_ count: Int) throws(DNSError) {
        guard left >= count else { throw truncated() }
        offset += count
    }

    /// Passes a name over without following it.
    mutating func skipName() throws(DNSError) {
        var length = 0
        while true {
            let head = try byte()
            switch head & 0xc0 {
            case 0x00:
                if head == 0 { return }
                length += 1 + Int(head)
                guard length < DNSName.longest else { throw DNSError(.badName, "a name is longer than 255 bytes") }
                try skip(Int(head))
            case 0xc0:
                _ = try byte()
                return
            default: throw DNSError(.badName, "a label is of a kind that does not exist")
            }
        }
    }

    /// Reads a name, compressed or not.
    mutating func name() throws(DNSError) -> DNSName {
        var wire: [UInt8] = []
        // Where the bytes begin that are being read: a pointer must lead before them.
        var start = offset
        var position = offset
        var end: Int?
        while true {
            guard position < bytes.count else { throw truncated() }
            let head = bytes[position]
            switch head & 0xc0 {
            case 0x00:
                let next = position + 1 + Int(head)
                guard next <= bytes.count else { throw truncated() }
                guard wire.count + 1 + Int(head) <= DNSName.longest else {
                    throw DNSError(.badName, "a name is longer than 255 bytes")
                }
                wire.append(head)
                for byte in bytes[(position + 1)..<next] { wire.append(DNSName.lowered(byte)) }
                position = next
                if head == 0 {
                    offset = end ?? position
                    return DNSName(wire: wire)
                }
            case 0xc0:
                guard position + 1 < bytes.count else { throw truncated() }
                let target = Int(head & 0x3f) << 8 | Int(bytes[position + 1])
                // Nor to the header, which holds no name and is not the same in a reply.
                guard target < start, target >= DNSMessage.headerLength else {
                    throw DNSError(.badPointer, "the name at byte \(start) points to byte \(target)")
                }
                end = end ?? position + 2
                start = target
                position = target
            default: throw DNSError(.badName, "a label is of a kind that does not exist")
            }
        }
    }
}
