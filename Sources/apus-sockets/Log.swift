import Glibc

/// One line an event on stderr: time, level, who, message, key=value; or the same as JSON.
struct Log {
    enum Format: String {
        case text
        case json
    }

    let format: Format

    func info(_ message: String, _ fields: KeyValuePairs<String, Any> = [:]) { write("info", message, fields) }
    func warn(_ message: String, _ fields: KeyValuePairs<String, Any> = [:]) { write("warn", message, fields) }
    func error(_ message: String, _ fields: KeyValuePairs<String, Any> = [:]) { write("error", message, fields) }

    private func write(_ level: String, _ message: String, _ fields: KeyValuePairs<String, Any>) {
        let bytes = Array(line(Self.timestamp(), level, message, fields).utf8)
        // A log that cannot be written has nowhere to say so.
        _ = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    func line(_ time: String, _ level: String, _ message: String, _ fields: KeyValuePairs<String, Any>) -> String {
        switch format {
        case .text:
            var line = "\(time)\t\(level)\tsockets\t\(Self.escaped(message, quotes: false))"
            for (key, value) in fields {
                let text = Self.escaped("\(value)", quotes: true)
                let plain = !text.isEmpty && !text.contains(" ") && !text.contains("\\")
                line += plain ? " \(key)=\(text)" : " \(key)=\"\(text)\""
            }
            return line + "\n"
        case .json:
            var line = "{\"time\":\"\(time)\",\"level\":\"\(level)\",\"scope\":\"sockets\","
            line += "\"message\":\"\(Self.escaped(message, quotes: true))\""
            for (key, value) in fields { line += ",\"\(key)\":\"\(Self.escaped("\(value)", quotes: true))\"" }
            return line + "}\n"
        }
    }

    /// Texts of other processes end up in here: a control character must not begin a line or move a terminal's cursor.
    private static func escaped(_ text: String, quotes: Bool) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"" where quotes: result += "\\\""
            case "\\" where quotes: result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\0"..."\u{1f}", "\u{7f}"..."\u{9f}", "\u{2028}", "\u{2029}":
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    private static func timestamp() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        func padded(_ value: some BinaryInteger, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let day = "\(padded(parts.tm_year + 1900, 4))-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
        let time = "\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
        return "\(day)T\(time).\(padded(now.tv_nsec / 1000, 6))Z"
    }
}
