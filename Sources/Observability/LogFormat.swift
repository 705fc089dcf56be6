/// How lines are written: of tab-separated columns, or as one JSON object each.
public enum LogFormat: String, Hashable, Sendable, CaseIterable {
    case text
    case json
}

/// A value of a field. Strings are quoted in text; addresses stand bare; numbers are numbers in JSON too.
enum LogValue {
    case string(String)
    case bare(String)
    case number(UInt64)
}

/// Writes one log line into a buffer, part by part.
struct LogLine {
    typealias Span = AccessRecord.Span

    /// Text: `time TAB level TAB scope:span{k=v} TAB message TAB k=v k=v`.
    static func text(
        _ bytes: inout [UInt8], time: Timestamp, level: String, scope: String, spans: [Span] = [], message: String,
        fields: ((String, LogValue) -> Void) -> Void
    ) {
        time.append(to: &bytes)
        bytes.append(tab)
        bytes += level.utf8
        bytes.append(tab)
        escape(scope, into: &bytes, quote: false)
        for span in spans {
            bytes.append(UInt8(ascii: ":"))
            bytes += span.name.utf8
            guard !span.fields.isEmpty else { continue }
            bytes.append(UInt8(ascii: "{"))
            for (index, field) in span.fields.enumerated() {
                if index > 0 { bytes.append(space) }
                bytes += field.key.utf8
                bytes.append(UInt8(ascii: "="))
                escape(field.value, into: &bytes, quote: false)
            }
            bytes.append(UInt8(ascii: "}"))
        }
        bytes.append(tab)
        escape(message, into: &bytes, quote: false)
        // A closure that captures an inout parameter cannot escape; it does not.
        var separator = tab
        fields { key, value in
            bytes.append(separator)
            separator = space
            bytes += key.utf8
            bytes.append(UInt8(ascii: "="))
            switch value {
            case .string(let text): escape(text, into: &bytes, quote: true)
            case .bare(let text): escape(text, into: &bytes, quote: false)
            case .number(let number): bytes += String(number).utf8
            }
        }
        bytes.append(newline)
    }

    /// JSON: `level`, `time`, `scope`, `message`, the fields flat, then an object a span.
    static func json(
        _ bytes: inout [UInt8], time: Timestamp, level: String, scope: String, spans: [Span] = [], message: String,
        fields: ((String, LogValue) -> Void) -> Void
    ) {
        bytes += #"{"level":"#.utf8
        jsonString(level, into: &bytes)
        bytes += #","time":""#.utf8
        time.append(to: &bytes)
        bytes += #"","scope":"#.utf8
        jsonString(scope, into: &bytes)
        bytes += #","message":"#.utf8
        jsonString(message, into: &bytes)
        fields { key, value in
            bytes.append(comma)
            jsonString(key, into: &bytes)
            bytes.append(UInt8(ascii: ":"))
            switch value {
            case .string(let text), .bare(let text): jsonString(text, into: &bytes)
            case .number(let number): bytes += String(number).utf8
            }
        }
        for span in spans {
            bytes.append(comma)
            jsonString(span.name, into: &bytes)
            bytes += ":{".utf8
            for (index, field) in span.fields.enumerated() {
                if index > 0 { bytes.append(comma) }
                jsonString(field.key, into: &bytes)
                bytes.append(UInt8(ascii: ":"))
                jsonString(field.value, into: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
        bytes.append(UInt8(ascii: "}"))
        bytes.append(newline)
    }

    // MARK: Escaping

    private static let tab = UInt8(ascii: "\t")
    private static let space = UInt8(ascii: " ")
    private static let comma = UInt8(ascii: ",")
    private static let newline = UInt8(ascii: "\n")

    /// Nothing foreign may break a line or the terminal it is read on: control characters are always escaped, and
    /// inside quotes the quote and the backslash too.
    private static func escape(_ text: String, into bytes: inout [UInt8], quote: Bool) {
        if quote { bytes.append(UInt8(ascii: "\"")) }
        defer { if quote { bytes.append(UInt8(ascii: "\"")) } }
        if isPlain(text) {
            bytes += text.utf8
            return
        }
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": bytes += #"\n"#.utf8
            case "\r": bytes += #"\r"#.utf8
            case "\t": bytes += #"\t"#.utf8
            case "\"" where quote: bytes += #"\""#.utf8
            case "\\" where quote: bytes += #"\\"#.utf8
            case _ where isControl(scalar): bytes += "\\u{\(String(scalar.value, radix: 16))}".utf8
            default: bytes += String(scalar).utf8
            }
        }
    }

    static func jsonString(_ text: String, into bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        defer { bytes.append(UInt8(ascii: "\"")) }
        if isPlain(text) {
            bytes += text.utf8
            return
        }
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": bytes += #"\n"#.utf8
            case "\r": bytes += #"\r"#.utf8
            case "\t": bytes += #"\t"#.utf8
            case "\"": bytes += #"\""#.utf8
            case "\\": bytes += #"\\"#.utf8
            case _ where isControl(scalar):
                let digits = String(scalar.value, radix: 16)
                bytes += "\\u\(String(repeating: "0", count: 4 - digits.utf8.count))\(digits)".utf8
            default: bytes += String(scalar).utf8
            }
        }
    }

    /// Visible ASCII without quote and backslash, as nearly everything is: nothing to escape.
    private static func isPlain(_ text: String) -> Bool {
        func isPlain(_ byte: UInt8) -> Bool { byte >= 0x20 && byte <= 0x7e && byte != 0x22 && byte != 0x5c }
        // The view's own iterator looks at every byte for where a character begins.
        return text.utf8.withContiguousStorageIfAvailable { $0.allSatisfy(isPlain) } ?? text.utf8.allSatisfy(isPlain)
    }

    /// C0, DEL, C1, and the line and paragraph separators.
    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || (0x2028...0x2029).contains(scalar.value)
    }
}
