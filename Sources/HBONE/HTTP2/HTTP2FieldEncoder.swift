/// Writes header blocks (RFC 7541) without compression state: names of the static table by number, everything else
/// as it is.
///
/// What a tunnel says once is hardly repeated, and a table would cost more time and memory per connection than the
/// bytes are worth. The peer may use its own table; NIOHPACK reads it.
struct HTTP2FieldEncoder {
    /// Entries of the static table (RFC 7541 appendix A) that tunnels use.
    private enum Entry {
        static let authority: UInt8 = 1
        static let method: UInt8 = 2
        static let status: UInt8 = 8
    }

    private(set) var block: [UInt8] = []

    init(_ request: ConnectRequest) {
        block.reserveCapacity(request.headers.reduce(64) { $0 + $1.name.utf8.count + $1.value.utf8.count + 8 })
        append(Entry.method, "CONNECT")
        append(Entry.authority, request.authority)
        append(request.headers)
    }

    init(_ reply: ConnectReply) {
        switch reply.status {
        // Entries of name and value together.
        case 200: block.append(0x88)
        case 400: block.append(0x8c)
        case 404: block.append(0x8d)
        case 500: block.append(0x8e)
        default: append(Entry.status, String(reply.status))
        }
        append(reply.headers)
    }

    private mutating func append(_ fields: [HeaderField]) {
        for field in fields {
            block.append(0)
            append(field.name)
            append(field.value)
        }
    }

    /// A literal without indexing, its name by number.
    private mutating func append(_ entry: UInt8, _ value: String) {
        block.append(entry)
        append(value)
    }

    /// A string without Huffman coding (section 5.2).
    private mutating func append(_ text: String) {
        var length = text.utf8.count
        if length < 127 {
            block.append(UInt8(length))
        } else {
            block.append(127)
            length -= 127
            while length >= 128 {
                block.append(UInt8(length & 127) | 128)
                length >>= 7
            }
            block.append(UInt8(length))
        }
        block.append(contentsOf: text.utf8)
    }
}
