import Testing

@testable import CNI

@Suite struct JSONValueTests {
    @Test func findsTheLastOfMembersWithOneName() throws {
        guard case .object(var object) = try read(#"{"a":1,"b":2,"a":3}"#) else {
            Issue.record("not an object")
            return
        }
        #expect(object["a"] == .number(JSONNumber(3)))
        #expect(object["c"] == nil)
        object["a"] = .null
        object["c"] = .bool(true)
        #expect(String(decoding: object.bytes, as: UTF8.self) == #"{"a":1,"b":2,"a":null,"c":true}"#)
        object["a"] = nil
        #expect(String(decoding: object.bytes, as: UTF8.self) == #"{"b":2,"c":true}"#)
    }

    @Test func comparesCodePoints() throws {
        // U+212A KELVIN SIGN is canonically equivalent to K; so are the two spellings of é.
        #expect(try read("\"\u{212a}\"") != read("\"K\""))
        #expect(try read("\"\u{e9}\"") != read("\"e\u{301}\""))
        #expect(try read(#"{"K":1}"#) != read("{\"\u{212a}\":1}"))
        guard case .object(let object) = try read("{\"\u{212a}ey\":1}") else { return }
        #expect(object["Key"] == nil)
    }

    @Test(arguments: [
        ("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}"), ("1", "1.0"), ("1e1", "10"), ("null", "false"), ("[1]", "[1,1]"),
        ("{}", "[]"), ("\"1\"", "1"),
    ])
    func tellsApart(_ left: String, _ right: String) throws {
        #expect(try read(left) != read(right))
        #expect(try read(left) == read(left))
    }

    @Test(
        arguments: [
            ("0", 0), ("-7", -7), ("9223372036854775807", Int.max), ("9223372036854775808", nil), ("1.0", nil),
            ("1e3", nil),
            ("-0", 0),
        ] as [(String, Int?)])
    func readsIntegers(_ json: String, _ expected: Int?) throws {
        guard case .number(let number) = try read(json) else {
            Issue.record("not a number")
            return
        }
        #expect(number.integer == expected)
        #expect(number.text == json)
    }

    @Test func escapesWhatAStringMayNotHold() {
        let value = JSONValue.string("\u{0}\u{1}\u{8}\u{9}\u{a}\u{b}\u{c}\u{d}\u{1f} \"\\/\u{7f}é🐦")
        let expected = #""\u0000\u0001\b\t\n\u000b\f\r\u001f \"\\/"# + "\u{7f}é🐦\""
        #expect(text(value) == expected)
    }
}
