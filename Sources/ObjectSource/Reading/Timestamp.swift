/// Moments as Kubernetes writes them (RFC 3339).
enum Timestamp {
    /// Seconds since 1970 of `2026-01-02T03:04:05Z`, with a fraction (dropped) and an offset where there is one.
    static func parse(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        guard (20...40).contains(bytes.count) else { return nil }
        func number(_ range: Range<Int>) -> Int64? {
            var value: Int64 = 0
            for index in range {
                guard index < bytes.count, (48...57).contains(bytes[index]) else { return nil }
                value = value * 10 + Int64(bytes[index] - 48)
            }
            return value
        }
        func byte(_ index: Int, _ expected: String) -> Bool {
            index < bytes.count && expected.utf8.contains(bytes[index])
        }
        guard let year = number(0..<4), byte(4, "-"), let month = number(5..<7), byte(7, "-"),
            let day = number(8..<10), byte(10, "Tt "), let hour = number(11..<13), byte(13, ":"),
            let minute = number(14..<16), byte(16, ":"), let second = number(17..<19),
            (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60
        else { return nil }
        var index = 19
        if byte(index, ".") {
            index += 1
            while index < bytes.count, (48...57).contains(bytes[index]) { index += 1 }
        }
        var offset: Int64 = 0
        if byte(index, "Zz") {
            index += 1
        } else {
            guard byte(index, "+-"), let hours = number(index + 1..<index + 3), byte(index + 3, ":"),
                let minutes = number(index + 4..<index + 6), hours < 24, minutes < 60
            else { return nil }
            offset = (hours * 3600 + minutes * 60) * (byte(index, "-") ? -1 : 1)
            index += 6
        }
        guard index == bytes.count else { return nil }
        // Days of the civil calendar, counted from March so that the leap day comes last.
        let shifted = month <= 2 ? year - 1 : year
        let monthFromMarch = (month + 9) % 12
        let days =
            365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * monthFromMarch + 2) / 5 + day - 719469
        return days * 86400 + hour * 3600 + minute * 60 + second - offset
    }
}

extension ObjectMeta {
    /// Seconds since 1970 of a moment as Kubernetes writes it (RFC 3339); `nil` when the text is none.
    public static func seconds(of text: String) -> Int64? { Timestamp.parse(text) }
}
