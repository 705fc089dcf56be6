import Testing

@testable import ObjectSource

@Suite("YAML is looked over before it is parsed")
struct YAMLGuardTests {
    @Test(
        "anchors, aliases and tags are refused wherever a value may begin",
        arguments: [
            "a: &x 1", "a: *x", "- &x 1", "- - *x", "[*x]", "[1, *x]", "{a: &x 1}", "&x a: 1", "--- &x\na: 1",
            "a: !!str 1", "! x", "a: \"q\"\nb: *x", "a: |\n  text\nb: *x", "# c\r*x", "a:\n  *x", "? *x\n: 1",
            "{\"a\":*x}", "{a: {}, b: *x}", "a: 'it''s'\nb: &x y", "\u{feff}&x a", "a: \u{85}*x", "k: |\n\n  t\n*x : 1",
            "- |\n  text\n- *x", "a: \"multi\n  line\" \nb: *x", "a: b # \" '\nc: *x", "x: a\"b\ny: *x", "[a, 'b', *x]",
        ])
    func refused(text: String) {
        #expect(throws: YAMLGuard.Refusal.self) { try YAMLGuard.check(Array(text.utf8)) }
    }

    @Test(
        "the same signs inside text are let pass",
        arguments: [
            "a: b & c", "a: b *x", "a: \"*x\"", "a: '&x'", "# *x\na: 1", "a: |\n  *x\n  &y\nb: 1", "a: x!y", "[a*x, b]",
            "cmd: sh -c 'echo *' 2>&1", "a: >-\n  & &x\n\n  *x\nb: c",
            "- name: x\n  run: |\n    case x in\n    *) ;;\n",
            "a: http://x/*y", "url: a:*x", "a: \"x\\\" *x\"",
        ])
    func passed(text: String) {
        #expect(throws: Never.self) { try YAMLGuard.check(Array(text.utf8)) }
    }

    @Test("a billion laughs are refused at the first anchor")
    func bomb() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...9 {
            let alias = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(alias)]\n"
        }
        let found = problems(text)
        #expect(
            found == [
                ObjectProblem(
                    file: "a.yaml", line: 1, message: "anchors and aliases are not accepted; write the value out")
            ])
    }

    @Test(
        "nesting is bounded, in flow and in blocks",
        arguments: [
            String(repeating: "[", count: 100_000), String(repeating: "{a: ", count: 70),
            String(repeating: "- ", count: 100_000),
            (0..<300).map { String(repeating: " ", count: $0) + "a:\n" }.joined(),
        ])
    func nesting(text: String) {
        #expect(throws: YAMLGuard.Refusal.self) { try YAMLGuard.check(Array(text.utf8)) }
        #expect(problems(text).count == 1)
    }

    @Test("what is deep but within bounds is read without harm")
    func deepEnough() throws {
        let flow = String(repeating: "[", count: 63) + String(repeating: "]", count: 63)
        let block = (0..<200).map { String(repeating: " ", count: $0) + "a:\n" }.joined()
        #expect(
            try read("apiVersion: x/v1\nkind: Deep\nspec: \(flow)\n---\napiVersion: x/v1\nkind: D\n\(block)").get()
                .isEmpty)
    }
}
