import Testing

@testable import ObjectSource

@Suite("Selectors")
struct LabelSelectorTests {
    @Test(
        "requirements",
        arguments: [
            (LabelSelector.Requirement("a", .in, ["1", "2"]), [true, false, false]),
            (.init("a", .notIn, ["1"]), [false, true, true]), (.init("a", .exists), [true, true, false]),
            (.init("a", .doesNotExist), [false, false, true]),
        ])
    func requirements(requirement: LabelSelector.Requirement, expected: [Bool]) {
        let labels: [[String: String]] = [["a": "1"], ["a": "3"], ["b": "1"]]
        #expect(labels.map { LabelSelector(requirements: [requirement]).matches($0) } == expected)
    }

    @Test("Istio's default, written out, is the default")
    func standard() throws {
        let text = """
            - podSelector:
                matchLabels: {istio.io/dataplane-mode: ambient}
            - podSelector:
                matchExpressions:
                - {key: istio.io/dataplane-mode, operator: NotIn, values: [none]}
              namespaceSelector:
                matchLabels: {istio.io/dataplane-mode: ambient}
            """
        #expect(try EnablementSelector.read(text, name: "o") == EnablementSelector.standard)
        #expect(try EnablementSelector.read("[]", name: "o").isEmpty)
        #expect(try EnablementSelector.read("", name: "o").isEmpty)
        #expect(try EnablementSelector.read("[{}]", name: "o") == [EnablementSelector()])
        #expect(LabelSelector().matches(["x": "y"]) && LabelSelector().isEmpty)
    }

    @Test(
        "what is wrong is named",
        arguments: [
            ("a: b", "o: expected a list of podSelector and namespaceSelector"),
            ("- podSelektor: {}", "o:1: [0].podSelektor: unknown field; did you mean podSelector?"),
            (
                "- podSelector: {matchExpressions: [{key: a, operator: Near, values: [x]}]}",
                "o:1: [0].podSelector.matchExpressions[0].operator: \"Near\" is none of In, NotIn, Exists, DoesNotExist"
            ),
            (
                "- podSelector: {matchExpressions: [{key: a, operator: In}]}",
                "o:1: [0].podSelector.matchExpressions[0].values: is missing"
            ),
            (
                "- podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}",
                "o:1: [0].podSelector.matchExpressions[0].values: means nothing with Exists"
            ),
            ("- &a {}", "o:1: anchors and aliases are not accepted; write the value out"), ("- {", "o: is no YAML"),
        ])
    func wrong(text: String, message: String) {
        #expect {
            try EnablementSelector.read(text, name: "o")
        } throws: { "\($0)" == message }
    }
}
