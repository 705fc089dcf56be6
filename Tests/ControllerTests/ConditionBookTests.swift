import Kubernetes
import ObjectSource
import Testing

@testable import Controller

@Suite("What is written into status")
struct ConditionBookTests {
    private let policy = ObjectKey(
        kind: .authorizationPolicy, name: ObjectName(namespace: "shop", name: "deny"))
    private var place: ConditionBook.Place { .init(object: policy, reporter: .ztunnelPolicy) }

    private func condition(
        _ isTrue: Bool, _ message: String = "m", reporter: ObjectCondition.Reporter = .ztunnelPolicy,
        ancestor: String = "", reason: String? = nil, generation: Int64 = 1
    ) -> ObjectCondition {
        ObjectCondition(
            policy, reporter, ancestor: ancestor,
            type: reporter == .ztunnelPolicy ? Conditions.ztunnelAccepted : Conditions.waypointAccepted,
            isTrue: isTrue, reason: reason ?? (isTrue ? "Accepted" : "UnsupportedValue"), message: message,
            generation: generation)
    }

    private func node(_ json: String) throws -> DocumentNode { try DocumentTree(json: Array(json.utf8)).root }

    private func text(_ patch: Patch) -> String {
        guard case .apply(let value, force: true) = patch else { return "" }
        return String(decoding: value.bytes, as: UTF8.self)
    }

    @Test("R7: only what differs is written, and what was said of an earlier form is said again of the next")
    func differences() throws {
        var book = ConditionBook()
        book.want([condition(false)])
        #expect(book.due == [place])
        let set = book.set(for: place, at: "2026-01-01T00:00:00Z")
        book.wrote(place, set)
        #expect(book.due.isEmpty)
        book.want([condition(false)])
        #expect(book.due.isEmpty)
        for changed in [condition(false, "other"), condition(false, "other", generation: 2), condition(true)] {
            book.want([changed])
            #expect(book.due == [place], "\(changed)")
            book.wrote(place, book.set(for: place, at: "2026-01-02T00:00:00Z"))
            #expect(book.due.isEmpty)
        }
        // Nothing more is said: what was is taken back.
        book.want([])
        #expect(book.due == [place])
        #expect(
            text(ConditionBook.patch(place, book.set(for: place, at: "x"), as: APIResource(.authorizationPolicy)))
                .contains(#""status":{"conditions":[]}"#))
        book.wrote(place, [:])
        #expect(book.due.isEmpty)
    }

    @Test("R7: the time of a condition is that of its status, whoever wrote it before")
    func times() throws {
        var book = ConditionBook()
        book.want([condition(false)])
        book.found(
            policy,
            try node(
                #"""
                {"status":{"conditions":[{"type":"ZtunnelAccepted","status":"False","reason":"Old","message":"m",
                "lastTransitionTime":"2025-05-05T05:05:05Z","observedGeneration":"1"}]}}
                """#))
        #expect(book.due == [place])
        #expect(book.set(for: place, at: "now")["ZtunnelAccepted"]?.since == "2025-05-05T05:05:05Z")
        book.want([condition(true)])
        #expect(book.set(for: place, at: "now")["ZtunnelAccepted"]?.since == "now")
    }

    @Test("R7: what is there already is not written, and others' conditions are nobody's business here")
    func found() throws {
        var book = ConditionBook()
        book.want([condition(true, generation: 4)])
        book.found(
            policy,
            try node(
                #"""
                {"status":{"conditions":[{"type":"Foreign","status":"True"},{"type":"ZtunnelAccepted","status":"True",
                "reason":"Accepted","message":"m","lastTransitionTime":"t","observedGeneration":4}]}}
                """#))
        #expect(book.due.isEmpty)
        // Left over from a leader of before; the object is nobody's now.
        book.want([])
        #expect(book.due == [place])
        // Somebody took it away.
        book.want([condition(true, generation: 4)])
        book.found(policy, try node("{}"))
        #expect(book.due == [place])
        book.forget(place)
        #expect(book.due.isEmpty)
    }

    @Test("R45: what is said of several targets becomes one condition")
    func targets() throws {
        func flat(_ verdicts: [(Bool, String)]) -> ConditionBook.Content? {
            var book = ConditionBook()
            book.want(
                verdicts.enumerated().map { index, verdict in
                    condition(
                        verdict.0, "m\(index)", reporter: .waypointPolicy, ancestor: "Service/s\(index)",
                        reason: verdict.1)
                })
            let place = ConditionBook.Place(object: policy, reporter: .waypointPolicy)
            return book.set(for: place, at: "t")[Conditions.waypointAccepted]
        }
        let one = flat([(false, "TargetNotFound")])
        #expect(one?.reason == "TargetNotFound" && one?.message == "m0" && one?.isTrue == false)
        let good = flat([(true, "Accepted"), (true, "Accepted")])
        #expect(good?.isTrue == true && good?.reason == "Accepted")
        let some = flat([(true, "Accepted"), (false, "AncestorNotBound")])
        #expect(some?.isTrue == true && some?.reason == "PartiallyInvalid" && some?.message == "Service/s1: m1")
        let none = flat([(false, "TargetNotFound"), (false, "AncestorNotBound")])
        #expect(none?.isTrue == false && none?.reason == "Invalid")
        #expect(none?.message == "Service/s0: m0; Service/s1: m1")
    }

    @Test("R7: a patch names the object, the reporter's conditions and nothing else")
    func patch() {
        var book = ConditionBook()
        book.want([condition(false, "why", generation: 7)])
        let patch = ConditionBook.patch(place, book.set(for: place, at: "t"), as: APIResource(.authorizationPolicy))
        #expect(
            text(patch)
                == #"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","#
                + #""metadata":{"name":"deny","namespace":"shop"},"status":{"conditions":[{"#
                + #""lastTransitionTime":"t","message":"why","observedGeneration":7,"reason":"UnsupportedValue","#
                + #""status":"False","type":"ZtunnelAccepted"}]}}"#)
    }
}
