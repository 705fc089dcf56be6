/// Writes numbers of addresses as bytes: every connection's ends are spelled out several times, and interpolation takes
/// many times as long.
enum DecimalText {
    static func put(_ value: UInt32, _ text: inout [UInt8]) {
        var scale: UInt32 = 1
        while value / scale >= 10 { scale *= 10 }
        while scale > 0 {
            text.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value / scale % 10))
            scale /= 10
        }
    }

    static func put(v4: UInt32, _ text: inout [UInt8]) {
        for shift: UInt32 in [24, 16, 8] {
            put(v4 >> shift & 255, &text)
            text.append(UInt8(ascii: "."))
        }
        put(v4 & 255, &text)
    }

    /// A string of at most so many bytes that the body appends.
    static func string(_ capacity: Int, _ body: (inout [UInt8]) -> Void) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(capacity)
        body(&text)
        return String(decoding: text, as: UTF8.self)
    }
}
