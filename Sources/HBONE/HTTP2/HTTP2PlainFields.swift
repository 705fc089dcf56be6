/// Reads header blocks that say everything as it is (RFC 7541): literals that enter no table, without Huffman coding, and
/// entries of the static table. Tunnels of our kind send nothing else (``HTTP2FieldEncoder``), and such a block leaves the
/// state of the decoder as it was, so it can be read past it, for a fraction of the time.
enum HTTP2PlainFields {
    typealias Field = (name: String, value: String)

    /// The block's fields; `nil` for any other block, for a malformed one, and for one beyond the limit (section 6.5.2 of
    /// RFC 9113 says how it is counted): the decoder knows what to do with those.
    static func read(_ block: [UInt8], limit: Int) -> [Field]? {
        var fields: [Field] = []
        fields.reserveCapacity(6)
        var position = 0
        var size = 0
        while position < block.count {
            let first = block[position]
            position += 1
            let field: Field
            if first & 0x80 != 0 {
                guard let entry = entry(first & 0x7f) else { return nil }
                field = entry
            } else {
                // 0000 and 0001: not indexed, never indexed. The rest changes the decoder's table.
                guard first & 0x60 == 0, let name = name(first & 0x0f, block, &position),
                    let value = text(block, &position)
                else { return nil }
                field = (name, value)
            }
            size += field.name.utf8.count + field.value.utf8.count + 32
            guard size <= limit else { return nil }
            fields.append(field)
        }
        return fields
    }

    /// Of the static table (RFC 7541 appendix A), the entries whose value counts here.
    private static func entry(_ index: UInt8) -> Field? {
        switch index {
        case 8: (":status", "200")
        case 12: (":status", "400")
        case 13: (":status", "404")
        case 14: (":status", "500")
        default: nil
        }
    }

    private static func name(_ index: UInt8, _ block: [UInt8], _ position: inout Int) -> String? {
        switch index {
        case 0: text(block, &position)
        case 1: ":authority"
        case 2: ":method"
        case 8: ":status"
        default: nil
        }
    }

    /// A string of ASCII as it is (section 5.2).
    private static func text(_ block: [UInt8], _ position: inout Int) -> String? {
        guard position < block.count, block[position] & 0x80 == 0 else { return nil }
        var length = Int(block[position])
        position += 1
        if length == 127 {
            // Two more groups of seven bits reach beyond any header list that is taken.
            for shift in [0, 7] {
                guard position < block.count else { return nil }
                let group = block[position]
                position += 1
                length += Int(group & 0x7f) << shift
                if group & 0x80 == 0 { break }
                guard shift == 0 else { return nil }
            }
        }
        guard length <= block.count - position else { return nil }
        let bytes = block[position..<position + length]
        position += length
        guard bytes.allSatisfy({ $0 < 0x80 }) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }
}
