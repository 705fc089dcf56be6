import Testing

@testable import CNI

@Suite struct JSONReaderTests {
    @Test(arguments: [
        "null", "true", "false", "0", "-0", "12", "-12.5", "1e5", "1E+5", "1.0e-5", "0.5", "0e1", "\"\"", "\"a\"",
        "[]", "{}", "[1]", "[1,2]", "[[[]]]", "{\"a\":1}", "{\"\":{}}", "{\"a\":{\"b\":[null,true]}}",
        "1e400", "123456789012345678901234567890", "-0.000000000000000000000000000000001", "\"\u{7f}\"",
        "\"é\"", "\"€\"", "\"🐦\"", "\"\u{2028}\"", "{\"a\":1,\"a\":2}", "{\"cni.dev/x\":[]}", "\"\u{fffd}\"",
        "\"\u{10ffff}\"", "\"\u{e000}\"", "\"\u{d7ff}\"", "\"\u{80}\"", "\"\u{800}\"", "\"\u{10000}\"",
    ])
    func comesOutAsItWentIn(_ json: String) throws {
        #expect(text(try read(json)) == json)
    }

    @Test(arguments: [
        (" \t\r\n1 ", "1"), ("[ 1 , 2 ]", "[1,2]"), ("{ \"a\" : 1 , \"b\" : { } }", "{\"a\":1,\"b\":{}}"),
        (#""\u0041""#, "\"A\""), (#""\/""#, "\"/\""), (#""\u00e9""#, "\"é\""), (#""\ud83d\udc26""#, "\"🐦\""),
        (#""\uD83D\uDC26x""#, "\"🐦x\""), (#""\b\f\n\r\t\"\\""#, #""\b\f\n\r\t\"\\""#), (#""\u0000""#, #""\u0000""#),
        (#""a\u001fb""#, #""a\u001fb""#), (#""\uffff""#, "\"\u{ffff}\""), (#""x\ny\nz""#, #""x\ny\nz""#),
    ])
    func normalisesOnlySpaceAndEscapes(_ json: String, _ expected: String) throws {
        #expect(bytes(text(try read(json))) == bytes(expected))
    }

    @Test(arguments: [
        // (text, line, column, field)
        ("", 1, 1, ""), ("   ", 1, 4, ""), ("nul", 1, 4, ""), ("True", 1, 1, ""), ("nulL", 1, 4, ""),
        ("01", 1, 2, ""), ("-", 1, 2, ""), ("-a", 1, 2, ""), ("1.", 1, 3, ""), (".5", 1, 1, ""), ("1e", 1, 3, ""),
        ("1e+", 1, 4, ""), ("+1", 1, 1, ""), ("-01", 1, 3, ""), ("0x1", 1, 2, ""), ("1 2", 1, 3, ""), ("NaN", 1, 1, ""),
        ("Infinity", 1, 1, ""), ("-Infinity", 1, 2, ""), ("1.e5", 1, 3, ""), ("1_000", 1, 2, ""),
        ("[", 1, 2, "[0]"), ("[1", 1, 3, ""), ("[1,", 1, 4, "[1]"), ("[1,]", 1, 4, "[1]"), ("[,1]", 1, 2, "[0]"),
        ("[1 2]", 1, 4, ""), ("]", 1, 1, ""), ("[}", 1, 2, "[0]"), ("[1}", 1, 3, ""), ("[1]]", 1, 4, ""),
        ("{", 1, 2, ""), ("{a:1}", 1, 2, ""), ("{\"a\"}", 1, 5, "a"), ("{\"a\":}", 1, 6, "a"), ("{\"a\":1,}", 1, 8, ""),
        ("{'a':1}", 1, 2, ""), ("{\"a\" 1}", 1, 6, "a"), ("{\"a\":1 \"b\":2}", 1, 8, ""), ("{1:2}", 1, 2, ""),
        ("{\"a\":1]", 1, 7, ""), ("{,}", 1, 2, ""), ("{}{}", 1, 3, ""), ("{} x", 1, 4, ""), ("{}//c", 1, 3, ""),
        ("/* c */ {}", 1, 1, ""), ("\"", 1, 2, ""), ("\"a", 1, 3, ""), ("\"a\\", 1, 4, ""), ("'a'", 1, 1, ""),
        ("\"\\x\"", 1, 2, ""), ("\"\\u12\"", 1, 2, ""), ("\"\\u12g4\"", 1, 2, ""), ("\"\\U0041\"", 1, 2, ""),
        ("\"\\u00", 1, 6, ""), ("\"a\nb\"", 1, 3, ""), ("\"a\tb\"", 1, 3, ""), ("\"\u{0}\"", 1, 2, ""),
        ("\u{feff}{}", 1, 1, ""), ("{}\u{0}", 1, 3, ""), ("\u{a0}1", 1, 1, ""), ("\u{b}1", 1, 1, ""),
        ("{\n  \"a\": [1,\n    x]\n}", 3, 5, "a[1]"), ("{\"a\":{\"b\":[{\"c\":tru}]}}", 1, 20, "a.b[0].c"),
        ("[[1,[2,?]]]", 1, 8, "[0][1][1]"), ("{\"a b\":?}", 1, 8, "\"a b\""), ("{\"\":?}", 1, 5, "\"\""),
        ("{\"\\n\":?}", 1, 7, "\"\\n\""), ("{\"é\":?}", 1, 7, "\"\\u00e9\""),
    ])
    func namesThePlace(_ json: String, _ line: Int, _ column: Int, _ field: String) throws {
        let error = try #require(throws: JSONError.self) { _ = try read(json) }
        #expect(error.line == line, "\(error)")
        #expect(error.column == column, "\(error)")
        #expect(error.field == field, "\(error)")
        #expect(!error.message.isEmpty)
        #expect("\(error)".contains("line \(line), column \(column)"))
    }

    @Test(arguments: [
        #""\ud800""#, #""\udc00""#, #""\ud800\ud800""#, #""\ud83dx""#, #""\ud83d\n""#, #""\udc26\ud83d""#,
        #""\ud83d\u0041""#, #""\udfff""#, #"{"\ud800":1}"#, #""\ud83d\"#,
    ])
    func refusesLoneSurrogates(_ json: String) throws {
        let error = try #require(throws: JSONError.self) { _ = try read(json) }
        #expect(error.message.contains("surrogate") || error.message.contains("ends within"), "\(error)")
    }

    @Test(
        arguments: [
            [0x80], [0xbf], [0xc0, 0x80], [0xc1, 0xbf], [0xc2], [0xc2, 0x41], [0xe0, 0x80, 0x80], [0xe0, 0x9f, 0xbf],
            [0xe2, 0x82], [0xe2, 0x82, 0x41], [0xed, 0xa0, 0x80], [0xed, 0xbf, 0xbf], [0xf0, 0x80, 0x80, 0x80],
            [0xf0, 0x8f, 0xbf, 0xbf], [0xf0, 0x9f, 0x90], [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xfe],
            [0xff],
            [0xef, 0xbf], [0xf0, 0x9f, 0x90, 0x41], [0xf8, 0x88, 0x80, 0x80, 0x80],
        ] as [[UInt8]])
    func refusesWhatIsNotUTF8(_ sequence: [UInt8]) throws {
        // Within a string with an end, at the very end of the text, and outside of any string.
        for json in [[0x22] + sequence + [0x22], [0x22] + sequence, sequence] {
            let error = try #require(throws: JSONError.self) { _ = try JSONReader.read(json) }
            #expect(error.line == 1)
        }
        let error = try #require(throws: JSONError.self) {
            _ = try JSONReader.read(bytes("{\"ab\":\"é") + sequence + bytes("\"}"))
        }
        #expect(error.message == "not UTF-8")
        #expect(error.field == "ab")
        #expect(error.column == 10)
    }

    // MARK: Limits

    @Test(arguments: [("[", "]"), ("{\"a\":", "}")])
    func nests64LevelsAndNoMore(_ open: String, _ close: String) throws {
        func nested(_ depth: Int, _ inner: String) -> String {
            String(repeating: open, count: depth) + inner + String(repeating: close, count: depth)
        }
        #expect(text(try read(nested(64, "1"))) == nested(64, "1"))
        let error = try #require(throws: JSONError.self) { _ = try read(nested(65, "1")) }
        #expect(error.message == "nested deeper than 64 levels")
        #expect(error.column == open.utf8.count * 64 + 1)
    }

    @Test(arguments: ["[", "{\"a\":", "[{\"a\":", "{\"a\":["])
    func survivesAMebibyteOfNesting(_ open: String) throws {
        let unit = bytes(open)
        let hostile = Array(repeating: unit, count: JSONReader.maximumSize / unit.count).joined()
        let error = try #require(throws: JSONError.self) { _ = try JSONReader.read(Array(hostile)) }
        #expect(error.message == "nested deeper than 64 levels")
        #expect(error.field.utf8.count <= 300)
    }

    @Test func takesAMebibyteAndNotAByteMore() throws {
        let most = [0x22] + [UInt8](repeating: 0x61, count: JSONReader.maximumSize - 2) + [0x22]
        guard case .string(let text) = try JSONReader.read(most) else {
            Issue.record("not a string")
            return
        }
        #expect(text.utf8.count == JSONReader.maximumSize - 2)
        #expect(throws: JSONError.self) { _ = try JSONReader.read(most + [0x20]) }
        #expect(throws: JSONError.self) {
            _ = try JSONReader.read([UInt8](repeating: 0x20, count: JSONReader.maximumSize + 1))
        }
    }

    @Test func takesWideAndEscapedTextsInTime() throws {
        // Neither may be quadratic: in a debug build that would take minutes.
        let commas = [UInt8](repeating: 0, count: JSONReader.maximumSize / 2 - 2).flatMap { _ in bytes("1,") }
        guard case .array(let elements) = try JSONReader.read(bytes("[") + commas + bytes("1]")) else {
            Issue.record("not an array")
            return
        }
        #expect(elements.count == JSONReader.maximumSize / 2 - 1)
        let escapes = String(repeating: #"\u0001"#, count: 170_000)
        #expect(try JSONReader.read(bytes("\"\(escapes)\"")).bytes.count == 6 * 170_000 + 2)
    }

    @Test func keepsALongNameOutOfTheMessage() throws {
        let name = String(repeating: "n", count: 100_000)
        let error = try #require(throws: JSONError.self) { _ = try read("{\"\(name)\":{\"\(name)\":?}}") }
        #expect("\(error)".utf8.count < 400)
    }
}
