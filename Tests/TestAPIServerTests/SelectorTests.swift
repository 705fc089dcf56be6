import Kubernetes
import Testing

@testable import TestAPIServer

@Suite("Selectors of queries")
struct SelectorTests {
    @Test(
        "by labels",
        arguments: [
            ("app=web", true), ("app==web", true), ("app!=web", false), ("tier!=db", true), ("app", true),
            ("tier", false),
            ("!tier", true), ("!app", false), ("app in (web, db)", true), ("app in (db)", false),
            ("app notin (db,cache)", true), ("tier notin (db)", true), ("app=web,v=1", true), ("app=web,v=2", false),
            ("app in (web,x),v notin (2)", true), ("", true), ("k8s.io/x=y", true),
        ])
    func labels(text: String, matches: Bool) throws {
        let labels = ["app": "web", "v": "1", "k8s.io/x": "y"]
        #expect(try QueryLabelSelector(text).matches(labels) == matches)
    }

    @Test("what is no selector is refused", arguments: ["app in web", "a b", "=x", "app near (x)", "(x)", "a in (b"])
    func bad(text: String) {
        #expect(throws: SelectorProblem.self) { _ = try QueryLabelSelector(text) }
    }

    @Test(
        "by fields",
        arguments: [
            ("spec.nodeName=n1", true), ("spec.nodeName!=n1", false), ("spec.nodeName==n2", false),
            ("metadata.name=web,metadata.namespace=shop", true), ("status.phase=", true),
            ("status.phase!=Running", true),
            ("spec.hostNetwork=false", true),
        ])
    func fields(text: String, matches: Bool) throws {
        let pod = try json(#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"nodeName":"n1"}}"#)
        #expect(try QueryFieldSelector(text, kind: "Pod").matches(pod) == matches)
    }

    @Test("a field that the server knows no index of is refused")
    func unknownField() {
        #expect(throws: SelectorProblem.self) { _ = try QueryFieldSelector("spec.image=x", kind: "Pod") }
        #expect(throws: SelectorProblem.self) { _ = try QueryFieldSelector("spec.nodeName=x", kind: "Service") }
    }
}
