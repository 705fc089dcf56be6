/// Why a text is no JSON.
public struct JSONProblem: Error, Hashable, Sendable, CustomStringConvertible {
    /// In the text, from 0.
    public var position: Int
    public var message: String

    public var description: String { "no JSON at byte \(position): \(message)" }
}

extension DocumentTree {
    /// Reads one JSON value (RFC 8259), in one pass.
    ///
    /// It is made for what an API server sends: bytes that are no UTF-8 become replacement characters, and how a number
    /// is written is not looked at until somebody asks for it.
    public convenience init(json: [UInt8]) throws(JSONProblem) {
        guard json.count < 1 << 31 else { throw JSONProblem(position: 0, message: "longer than 2 GiB") }
        var reader = JSONTreeReader(json)
        try reader.readAll()
        self.init(values: reader.values, text: json, extra: reader.extra)
    }
}

private struct JSONTreeReader {
    /// Lists and mappings within one another, at most.
    static let maximumDepth = 64

    private let bytes: [UInt8]
    private var position = 0
    private var line: UInt32 = 1
    var values: [DocumentTree.Value] = []
    var extra: [UInt8] = []

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        // A name and a value take some thirty bytes of an object.
        values.reserveCapacity(bytes.count / 16 + 4)
    }

    mutating func readAll() throws(JSONProblem) {
        skipWhitespace()
        try value(depth: 0)
        skipWhitespace()
        guard position == bytes.count else { throw problem("something follows the value") }
    }

    private mutating func value(depth: Int) throws(JSONProblem) {
        guard position < bytes.count else { throw problem("the text ends where a value is due") }
        switch bytes[position] {
        case UInt8(ascii: "{"): try mapping(depth: depth + 1)
        case UInt8(ascii: "["): try list(depth: depth + 1)
        case UInt8(ascii: "\""): try string()
        default: try plain()
        }
    }

    private mutating func begin(_ kind: DocumentTree.Kind, _ depth: Int) throws(JSONProblem) -> Int {
        guard depth <= Self.maximumDepth else { throw problem("nested deeper than \(Self.maximumDepth) levels") }
        values.append(DocumentTree.Value(kind: kind, line: line))
        position += 1
        skipWhitespace()
        return values.count - 1
    }

    private mutating func mapping(depth: Int) throws(JSONProblem) {
        let own = try begin(.mapping, depth)
        if !skip(UInt8(ascii: "}")) {
            while true {
                guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
                    throw problem("expected a name in quotes")
                }
                try string()
                skipWhitespace()
                guard skip(UInt8(ascii: ":")) else { throw problem("expected ':' after a name") }
                skipWhitespace()
                try value(depth: depth)
                skipWhitespace()
                if skip(UInt8(ascii: "}")) { break }
                guard skip(UInt8(ascii: ",")) else { throw problem("expected ',' or '}'") }
                skipWhitespace()
            }
        }
        values[own].next = UInt32(values.count)
    }

    private mutating func list(depth: Int) throws(JSONProblem) {
        let own = try begin(.list, depth)
        if !skip(UInt8(ascii: "]")) {
            while true {
                try value(depth: depth)
                skipWhitespace()
                if skip(UInt8(ascii: "]")) { break }
                guard skip(UInt8(ascii: ",")) else { throw problem("expected ',' or ']'") }
                skipWhitespace()
            }
        }
        values[own].next = UInt32(values.count)
    }

    private mutating func plain() throws(JSONProblem) {
        let start = position
        while position < bytes.count, Self.isPlain(bytes[position]) { position += 1 }
        let word = bytes[start..<position]
        guard let first = word.first else { throw problem("expected a value") }
        let isNumber = first == UInt8(ascii: "-") || (48...57).contains(first)
        guard
            isNumber || word.elementsEqual("true".utf8) || word.elementsEqual("false".utf8)
                || word.elementsEqual("null".utf8)
        else {
            position = start
            throw problem("expected a value")
        }
        append(.plain, start, word.count)
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (97...122).contains(byte) || (48...57).contains(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+")
            || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "E")
    }

    private mutating func append(_ kind: DocumentTree.Kind, _ start: Int, _ length: Int) {
        values.append(
            DocumentTree.Value(
                kind: kind, line: line, start: UInt32(start), length: UInt32(length), next: UInt32(values.count + 1)))
    }

    // MARK: Strings

    private mutating func string() throws(JSONProblem) {
        position += 1
        let start = position
        while position < bytes.count {
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") {
                append(.quoted, start, position - start)
                position += 1
                return
            }
            if byte == UInt8(ascii: "\\") { return try escapedString(from: start) }
            guard byte >= 0x20 else { throw problem("a control character in a string") }
            position += 1
        }
        throw problem("the text ends within a string")
    }

    private mutating func escapedString(from start: Int) throws(JSONProblem) {
        let extraStart = extra.count
        extra += bytes[start..<position]
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                append(.quoted, bytes.count + extraStart, extra.count - extraStart)
                position += 1
                return
            case UInt8(ascii: "\\"):
                position += 1
                try escape()
            case 0..<0x20: throw problem("a control character in a string")
            default:
                extra.append(byte)
                position += 1
            }
        }
        throw problem("the text ends within a string")
    }

    private mutating func escape() throws(JSONProblem) {
        guard position < bytes.count else { throw problem("the text ends within a string") }
        let letter = bytes[position]
        position += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): extra.append(letter)
        case UInt8(ascii: "b"): extra.append(0x08)
        case UInt8(ascii: "f"): extra.append(0x0c)
        case UInt8(ascii: "n"): extra.append(0x0a)
        case UInt8(ascii: "r"): extra.append(0x0d)
        case UInt8(ascii: "t"): extra.append(0x09)
        case UInt8(ascii: "u"): extra += UTF8.encode(try scalar()) ?? UTF8.encodedReplacementCharacter
        default: throw problem("unknown escape")
        }
    }

    /// A surrogate that stands alone becomes the replacement character, as in Go.
    private mutating func scalar() throws(JSONProblem) -> Unicode.Scalar {
        let first = try hexUnit()
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard first < 0xdc00, position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
            bytes[position + 1] == UInt8(ascii: "u")
        else { return "\u{fffd}" }
        position += 2
        let second = try hexUnit()
        guard (0xdc00...0xdfff).contains(second) else { return Unicode.Scalar(second) ?? "\u{fffd}" }
        return Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00)) ?? "\u{fffd}"
    }

    private mutating func hexUnit() throws(JSONProblem) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard position < bytes.count,
                let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue
            else { throw problem("\\u needs four hexadecimal digits") }
            unit = unit << 4 | UInt32(digit)
            position += 1
        }
        return unit
    }

    // MARK: Bytes

    private mutating func skip(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func skipWhitespace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x0a: line += 1
            case 0x20, 0x0d, 0x09: break
            default: return
            }
            position += 1
        }
    }

    private func problem(_ message: String) -> JSONProblem { JSONProblem(position: position, message: message) }
}
