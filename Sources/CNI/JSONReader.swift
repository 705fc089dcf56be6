/// Reads one JSON text (RFC 8259) strictly: UTF-8 without flaws and without byte order mark, no trailing commas, no
/// comments, no lone surrogates, nothing after the value.
public struct JSONReader: ~Copyable {
    /// Arrays and objects within one another, at most.
    public static let maximumDepth = 64
    /// Bytes of a text, at most: 1 MiB.
    public static let maximumSize = 1 << 20

    private let bytes: [UInt8]
    private var position = 0

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The value of the text, or the first error in it with line, column and field.
    public static func read(_ bytes: [UInt8]) throws(JSONError) -> JSONValue {
        guard bytes.count <= maximumSize else {
            throw JSONError("the text is longer than \(maximumSize) bytes", line: 1, column: 1)
        }
        var reader = JSONReader(bytes)
        reader.skipWhitespace()
        guard reader.position < bytes.count else { throw reader.error("the text is empty") }
        let value = try reader.value(depth: 0)
        reader.skipWhitespace()
        guard reader.position == bytes.count else {
            throw reader.error("expected the end of the text, found \(reader.found)")
        }
        return value
    }

    // MARK: Values

    private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        guard let byte = current else { throw error("expected a value, found \(found)") }
        switch byte {
        case UInt8(ascii: "{"): return .object(try object(depth: depth + 1))
        case UInt8(ascii: "["): return .array(try array(depth: depth + 1))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"):
            try word("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try word("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try word("null")
            return .null
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
        default: throw error("expected a value, found \(found)")
        }
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONObject {
        guard depth <= Self.maximumDepth else { throw error("nested deeper than \(Self.maximumDepth) levels") }
        position += 1
        skipWhitespace()
        var members: [JSONObject.Member] = []
        if skip(UInt8(ascii: "}")) { return JSONObject() }
        while true {
            guard current == UInt8(ascii: "\"") else { throw error("expected a member name in quotes, found \(found)") }
            let name = try string()
            do throws(JSONError) {
                skipWhitespace()
                guard skip(UInt8(ascii: ":")) else { throw error("expected ':' after the name, found \(found)") }
                skipWhitespace()
                members.append(JSONObject.Member(name, try value(depth: depth)))
                skipWhitespace()
            } catch {
                var error = error
                error.field = FieldPath.join(member: name, error.field)
                throw error
            }
            if skip(UInt8(ascii: "}")) { return JSONObject(members) }
            guard skip(UInt8(ascii: ",")) else { throw error("expected ',' or '}', found \(found)") }
            skipWhitespace()
        }
    }

    private mutating func array(depth: Int) throws(JSONError) -> [JSONValue] {
        guard depth <= Self.maximumDepth else { throw error("nested deeper than \(Self.maximumDepth) levels") }
        position += 1
        skipWhitespace()
        var elements: [JSONValue] = []
        if skip(UInt8(ascii: "]")) { return elements }
        while true {
            do throws(JSONError) {
                elements.append(try value(depth: depth))
                skipWhitespace()
            } catch {
                var error = error
                error.field = FieldPath.join(index: elements.count, error.field)
                throw error
            }
            if skip(UInt8(ascii: "]")) { return elements }
            guard skip(UInt8(ascii: ",")) else { throw error("expected ',' or ']', found \(found)") }
            skipWhitespace()
        }
    }

    private mutating func word(_ word: StaticString) throws(JSONError) {
        for offset in 0..<word.utf8CodeUnitCount {
            guard current == word.withUTF8Buffer({ $0[offset] }) else {
                throw error("expected \(word), found \(found)")
            }
            position += 1
        }
    }

    private mutating func number() throws(JSONError) -> JSONNumber {
        let start = position
        _ = skip(UInt8(ascii: "-"))
        if skip(UInt8(ascii: "0")) {
            if isAtDigit { throw error("a number has no leading zeros") }
        } else {
            try digits()
        }
        if skip(UInt8(ascii: ".")) { try digits() }
        if skip(UInt8(ascii: "e")) || skip(UInt8(ascii: "E")) {
            if !skip(UInt8(ascii: "+")) { _ = skip(UInt8(ascii: "-")) }
            try digits()
        }
        return JSONNumber(validated: String(decoding: bytes[start..<position], as: UTF8.self))
    }

    private mutating func digits() throws(JSONError) {
        guard isAtDigit else { throw error("expected a digit, found \(found)") }
        while isAtDigit { position += 1 }
    }

    // MARK: Strings

    private mutating func string() throws(JSONError) -> String {
        position += 1
        var start = position
        // Nearly all strings have no escapes: they are taken as one run.
        var unescaped: [UInt8] = []
        while let byte = current {
            switch byte {
            case UInt8(ascii: "\""):
                let run = bytes[start..<position]
                position += 1
                if unescaped.isEmpty { return String(decoding: run, as: UTF8.self) }
                unescaped += run
                return String(decoding: unescaped, as: UTF8.self)
            case UInt8(ascii: "\\"):
                unescaped += bytes[start..<position]
                unescaped += UTF8.encode(try escape()) ?? UTF8.encodedReplacementCharacter
                start = position
            case 0..<0x20:
                throw error("a control character in a string must be escaped")
            case 0x20..<0x80:
                position += 1
            default:
                try multibyteScalar()
            }
        }
        throw error("the text ends within a string")
    }

    private mutating func escape() throws(JSONError) -> Unicode.Scalar {
        let start = position
        position += 1
        let letter = current
        position += 1
        switch letter {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): break
        case nil: throw error("the text ends within a string", at: bytes.count)
        default: throw error("unknown escape", at: start)
        }
        let first = try hexUnit(escapeAt: start)
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard first < 0xdc00, current == UInt8(ascii: "\\"), next == UInt8(ascii: "u") else {
            throw error("a surrogate stands alone", at: start)
        }
        position += 2
        let second = try hexUnit(escapeAt: position - 2)
        guard (0xdc00...0xdfff).contains(second),
            let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
        else { throw error("a surrogate stands alone", at: start) }
        return scalar
    }

    private mutating func hexUnit(escapeAt start: Int) throws(JSONError) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = current else { throw error("the text ends within a string") }
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: throw error("\\u needs four hexadecimal digits", at: start)
            }
            unit = unit << 4 | UInt32(digit)
            position += 1
        }
        return unit
    }

    /// One scalar of two to four bytes, by the table of well-formed sequences (Unicode 3-7): no overlong forms, no
    /// surrogates, nothing above U+10FFFF.
    private mutating func multibyteScalar() throws(JSONError) {
        let start = position
        let lead = bytes[start]
        let (count, second): (Int, ClosedRange<UInt8>)
        switch lead {
        case 0xc2...0xdf: (count, second) = (2, 0x80...0xbf)
        case 0xe0: (count, second) = (3, 0xa0...0xbf)
        case 0xe1...0xec, 0xee...0xef: (count, second) = (3, 0x80...0xbf)
        case 0xed: (count, second) = (3, 0x80...0x9f)
        case 0xf0: (count, second) = (4, 0x90...0xbf)
        case 0xf1...0xf3: (count, second) = (4, 0x80...0xbf)
        case 0xf4: (count, second) = (4, 0x80...0x8f)
        default: throw error("not UTF-8")
        }
        guard start + count <= bytes.count, second.contains(bytes[start + 1]),
            bytes[(start + 2)..<max(start + 2, start + count)].allSatisfy({ (0x80...0xbf).contains($0) })
        else { throw error("not UTF-8", at: start) }
        position += count
    }

    // MARK: Bytes

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }
    private var next: UInt8? { position + 1 < bytes.count ? bytes[position + 1] : nil }

    private var isAtDigit: Bool { current.map { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ?? false }

    private mutating func skip(_ byte: UInt8) -> Bool {
        guard current == byte else { return false }
        position += 1
        return true
    }

    private mutating func skipWhitespace() {
        while let byte = current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
    }

    // MARK: Errors

    /// What stands at the position, for messages.
    private var found: String {
        guard let byte = current else { return "the end of the text" }
        if byte == 0xef, bytes[position...].starts(with: [0xef, 0xbb, 0xbf]) { return "a byte order mark" }
        guard (0x21...0x7e).contains(byte) else {
            return byte == 0x20 ? "a space" : "the byte 0x" + String(byte, radix: 16)
        }
        return "'\(Unicode.Scalar(byte))'"
    }

    private func error(_ message: String) -> JSONError { error(message, at: position) }

    private func error(_ message: String, at position: Int) -> JSONError {
        let before = bytes[..<min(position, bytes.count)]
        let lineStart = before.lastIndex(of: 0x0a).map { $0 + 1 } ?? 0
        let line = before.reduce(1) { $1 == 0x0a ? $0 + 1 : $0 }
        return JSONError(message, line: line, column: before.count - lineStart + 1)
    }
}
