/// Looks over a YAML text before a parser builds anything of it: no anchors, aliases and tags, bounded nesting.
///
/// An alias costs the writer three bytes and the reader a copy of what it stands for, aliases of aliases a thousand
/// copies and so on; Kubernetes objects need none. The parser recurses once per level, so nesting is bounded, too.
///
/// It knows comments, quotes and block scalars, and where it cannot be sure it says no: the price is that a line
/// inside a plain scalar of several lines cannot begin with `&`, `*` or `!`.
struct YAMLGuard {
    struct Refusal: Error, Equatable {
        /// From 1.
        let line: Int
        let message: String
    }

    static let maximumFlowDepth = 64
    /// Columns that structure may be indented by; every level of a block takes one at least.
    static let maximumIndentation = 200

    private var line = 1
    private var quote: UInt8?
    private var flowDepth = 0
    /// Lines that are indented further than this belong to the block scalar.
    private var blockScalarParent: Int?

    static func check(_ text: [UInt8]) throws(Refusal) {
        var guardian = YAMLGuard()
        var start = 0
        while start < text.count {
            let (end, next) = lineEnd(text, from: start)
            try guardian.scan(text[start..<end])
            guardian.line += 1
            start = next
        }
    }

    /// Line feeds, carriage returns, next line, line and paragraph separators: all that YAML 1.1 breaks lines at.
    private static func lineEnd(_ text: [UInt8], from start: Int) -> (end: Int, next: Int) {
        var index = start
        while index < text.count {
            switch text[index] {
            case 0x0a: return (index, index + 1)
            case 0x0d:
                let isPair = index + 1 < text.count && text[index + 1] == 0x0a
                return (index, index + (isPair ? 2 : 1))
            case 0xc2 where index + 1 < text.count && text[index + 1] == 0x85: return (index, index + 2)
            case 0xe2 where index + 2 < text.count && text[index + 1] == 0x80 && text[index + 2] & 0xfe == 0xa8:
                return (index, index + 3)
            default: index += 1
            }
        }
        return (text.count, text.count)
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    private mutating func scan(_ content: ArraySlice<UInt8>) throws(Refusal) {
        var index = content.startIndex
        var column = 0
        func at(_ offset: Int) -> UInt8? {
            let position = index + offset
            return position < content.endIndex ? content[position] : nil
        }
        func blankFollows() -> Bool { at(1).map(Self.isBlank) ?? true }

        if let parent = blockScalarParent {
            let indentation = content.prefix { $0 == 0x20 }.count
            if indentation == content.count || indentation > parent { return }
            blockScalarParent = nil
        }
        // Document markers stand at the very left and begin afresh.
        if quote == nil, content.starts(with: [0x2d, 0x2d, 0x2d]) || content.starts(with: [0x2e, 0x2e, 0x2e]),
            content.count == 3 || Self.isBlank(content[content.startIndex + 3])
        {
            flowDepth = 0
            index += 3
            column = 3
        }
        // A value may begin here, so that & * ! and quotes mean something.
        var tokenMayStart = quote == nil
        // The column of the innermost block the line has opened.
        var blockColumn: Int?
        var afterQuoted = false

        while index < content.endIndex {
            let byte = content[index]
            defer {
                index += 1
                column += 1
            }
            if let open = quote {
                if open == UInt8(ascii: "\""), byte == UInt8(ascii: "\\") {
                    index += 1
                    column += 1
                } else if byte == open {
                    quote = nil
                    afterQuoted = true
                }
                continue
            }
            if Self.isBlank(byte) { continue }
            // A byte order mark may begin any line and is nothing.
            if byte == 0xef, at(1) == 0xbb, at(2) == 0xbf {
                index += 2
                continue
            }
            let followsBlank = index == content.startIndex || Self.isBlank(content[index - 1])
            if byte == UInt8(ascii: "#"), followsBlank { return }
            let isColon = byte == UInt8(ascii: ":")
            if isColon, blankFollows() || (flowDepth > 0 && (afterQuoted || isFlowIndicator(at(1)))) {
                tokenMayStart = true
                afterQuoted = false
                continue
            }
            if flowDepth > 0, try flowIndicator(byte) {
                tokenMayStart = true
                afterQuoted = byte == UInt8(ascii: "]") || byte == UInt8(ascii: "}")
                continue
            }
            guard tokenMayStart else { continue }
            if flowDepth == 0, blockColumn == nil || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "?") {
                blockColumn = column
                guard column <= Self.maximumIndentation else {
                    throw Refusal(line: line, message: "indented by more than \(Self.maximumIndentation) columns")
                }
            }
            switch byte {
            case UInt8(ascii: "-"), UInt8(ascii: "?"):
                if blankFollows() { blockColumn = nil } else { tokenMayStart = false }
            case UInt8(ascii: "&"), UInt8(ascii: "*"):
                throw Refusal(line: line, message: "anchors and aliases are not accepted; write the value out")
            case UInt8(ascii: "!"):
                throw Refusal(line: line, message: "tags are not accepted")
            case UInt8(ascii: "\""), UInt8(ascii: "'"):
                quote = byte
                tokenMayStart = false
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                _ = try flowIndicator(byte)
            case UInt8(ascii: "|"), UInt8(ascii: ">"):
                guard flowDepth == 0 else {
                    tokenMayStart = false
                    continue
                }
                blockScalarParent = blockColumn ?? column
                return
            default:
                tokenMayStart = false
            }
        }
    }

    private func isFlowIndicator(_ byte: UInt8?) -> Bool {
        guard let byte else { return true }
        return [UInt8(ascii: ","), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "{"), UInt8(ascii: "}")]
            .contains(byte)
    }

    /// Whether the byte is one, and keeps count of the nesting.
    private mutating func flowIndicator(_ byte: UInt8) throws(Refusal) -> Bool {
        switch byte {
        case UInt8(ascii: "["), UInt8(ascii: "{"):
            flowDepth += 1
            guard flowDepth <= Self.maximumFlowDepth else {
                throw Refusal(line: line, message: "nested deeper than \(Self.maximumFlowDepth) levels")
            }
        case UInt8(ascii: "]"), UInt8(ascii: "}"): flowDepth = max(0, flowDepth - 1)
        case UInt8(ascii: ","): break
        default: return false
        }
        return true
    }
}
