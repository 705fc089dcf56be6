import IstioAPI
import Mesh
import Testing

@testable import Discovery

/// What one client is sent, and when: a pure session, and a clock that the rows move.
@Suite("Policies come before the workloads that list them, and go after them")
struct PolicyOrderTests {
    enum Kind: String, Sendable {
        case policies, workloads

        var typeURL: String { self == .policies ? TypeURL.authorization : TypeURL.address }
    }

    enum Step: Sendable {
        /// The first request for a type, from a client that has these already.
        case ask(Kind, known: [String] = [])
        case take(Kind)
        case refuse(Kind)
        /// All that is published: policies by name, workloads with the policies they list.
        case publish([String], [String: [String]])
        /// The same with policies that say something else.
        case reverse([String], [String: [String]])
        /// So many milliseconds.
        case pass(Int)
    }

    /// What is done, and what is sent then: `+` what there is, `-` what is gone.
    struct Row: CustomTestStringConvertible, Sendable {
        let name: String
        let steps: [(Step, [String])]
        var testDescription: String { name }

        init(_ name: String, _ steps: [(Step, [String])]) {
            self.name = name
            self.steps = steps
        }
    }

    /// Both types asked for, and `p` and `a`, which lists it, are there.
    private static let settled: [(Step, [String])] = [
        (.publish(["p"], ["a": ["p"]]), []), (.ask(.policies), ["policies +p"]), (.take(.policies), []),
        (.ask(.workloads), ["workloads +a"]), (.take(.workloads), []),
    ]

    static let rows = [
        Row(
            "workloads wait for the answer to a new policy",
            [
                (.ask(.policies), ["policies"]), (.ask(.workloads), ["workloads"]), (.take(.policies), []),
                (.take(.workloads), []), (.publish(["p"], ["a": ["p"]]), ["policies +p"]), (.pass(4900), []),
                (.take(.policies), ["workloads +a"]), (.take(.workloads), []), (.pass(60_000), []),
            ]),
        Row(
            "a stream that begins waits for the first policies",
            [
                (.publish(["p"], ["a": ["p"]]), []), (.ask(.policies), ["policies +p"]), (.ask(.workloads), []),
                (.take(.policies), ["workloads +a"]),
            ]),
        Row(
            "a policy that is refused holds nothing up",
            settled + [
                (.publish(["p", "q"], ["a": ["p", "q"]]), ["policies +q"]), (.refuse(.policies), ["workloads +a"]),
            ]),
        Row(
            "who does not answer is waited for once, and not for long",
            settled + [
                (.publish(["p", "q"], ["a": ["p", "q"]]), ["policies +q"]), (.pass(4900), []),
                (.pass(200), ["workloads +a"]), (.take(.workloads), []),
                (.publish(["p", "q"], ["b": ["q"]]), ["workloads +b -a"]),
            ]),
        Row(
            "who does not ask for policies does not wait",
            [
                (.ask(.workloads), ["workloads"]), (.take(.workloads), []),
                (.publish(["p"], ["a": ["p"]]), ["workloads +a"]), (.take(.workloads), []),
                (.publish([], ["a": []]), ["workloads +a"]),
            ]),
        Row(
            "a policy that says something else is not waited for",
            settled + [(.reverse(["p"], ["a": ["p"], "b": []]), ["policies +p", "workloads +b"])]),
        Row(
            "a workload that changes while policies are as they were is not held up",
            settled + [(.publish(["p"], ["b": ["p"]]), ["workloads +b -a"])]),
        Row(
            "a policy goes after the workloads that listed it",
            settled + [
                (.publish([], ["a": []]), ["workloads +a"]), (.pass(4900), []), (.take(.workloads), ["policies -p"]),
                (.take(.policies), []), (.pass(60_000), []),
            ]),
        Row(
            "one in place of another: it comes, the workload changes, the other goes",
            settled + [
                (.publish(["q"], ["a": ["q"]]), ["policies +q"]), (.take(.policies), ["workloads +a"]),
                (.take(.workloads), ["policies -p"]),
            ]),
        Row(
            "workloads that are refused do not keep a policy",
            settled + [(.publish([], ["a": []]), ["workloads +a"]), (.refuse(.workloads), ["policies -p"])]),
        Row(
            "who does not answer keeps a policy not for long",
            settled + [
                (.publish([], ["a": []]), ["workloads +a"]), (.pass(4900), []), (.pass(200), ["policies -p"]),
            ]),
        Row(
            "an answer to what was sent before the policy went does not let it go",
            settled + [
                (.publish(["p"], ["a": ["p"], "b": []]), ["workloads +b"]), (.publish([], ["a": []]), []),
                (.take(.workloads), ["workloads +a -b"]), (.take(.workloads), ["policies -p"]),
            ]),
        Row(
            "who does not ask for workloads hears at once what is gone",
            [
                (.publish(["p"], [:]), []), (.ask(.policies), ["policies +p"]), (.take(.policies), []),
                (.publish([], [:]), ["policies -p"]),
            ]),
        Row(
            "a policy that no workload listed goes at once",
            settled + [
                (.publish(["p", "q"], ["a": ["p"]]), ["policies +q"]), (.take(.policies), []),
                (.publish(["p"], ["a": ["p"]]), ["policies -q"]),
            ]),
        Row(
            "policies come while the word that another is gone waits",
            settled + [
                (.publish([], ["a": []]), ["workloads +a"]), (.publish(["q"], ["a": ["q"]]), ["policies +q"]),
                (.take(.policies), []), (.publish([], ["a": []]), []), (.take(.workloads), ["workloads +a"]),
                (.take(.workloads), ["policies -p -q"]),
            ]),
        Row(
            "what is back before it was said to be gone is not said to be gone",
            settled + [
                (.publish([], ["a": []]), ["workloads +a"]), (.publish(["p"], ["a": ["p"]]), ["policies +p"]),
                (.take(.policies), []), (.take(.workloads), ["workloads +a"]), (.take(.workloads), []),
            ]),
        Row(
            "who comes back, and asks for workloads first, is sent policies first",
            [
                (.publish(["p"], ["a": ["p"]]), []), (.ask(.workloads, known: ["a"]), []), (.pass(50), []),
                (.ask(.policies, known: []), ["policies +p"]), (.take(.policies), ["workloads +a"]),
            ]),
        Row(
            "who comes back and asks for workloads alone is not held up",
            [
                (.publish(["p"], ["a": ["p"]]), []), (.ask(.workloads, known: ["a"]), []),
                (.pass(100), ["workloads +a"]),
            ]),
        Row(
            "who comes back keeps a policy that is gone until it has the workloads",
            [
                (.publish([], ["a": []]), []), (.ask(.policies, known: ["p"]), ["policies"]),
                (.ask(.workloads, known: ["a"]), ["workloads +a"]), (.take(.policies), []),
                (.take(.workloads), ["policies -p"]), (.take(.policies), []), (.pass(60_000), []),
            ]),
        Row(
            "who comes back for policies alone hears soon what is gone",
            [
                (.publish([], [:]), []), (.ask(.policies, known: ["p"]), ["policies"]), (.pass(50), []),
                (.take(.policies), ["policies -p"]), (.take(.policies), []),
            ]),
    ]

    @Test(arguments: rows)
    func order(_ row: Row) throws {
        var client = Client()
        for (index, (step, expected)) in row.steps.enumerated() {
            #expect(try client.sent(after: step) == expected, "step \(index), \(step)")
        }
    }

    @Test("what is gone counts as acknowledged when it was said, and not before")
    func acknowledged() throws {
        var client = Client()
        for (step, expected) in Self.settled { #expect(try client.sent(after: step) == expected) }
        #expect(client.session.acknowledged(TypeURL.authorization) == 1)
        #expect(try client.sent(after: .publish(["q"], ["a": ["q"]])) == ["policies +q"])
        #expect(try client.sent(after: .take(.policies)) == ["workloads +a"])
        #expect(client.session.acknowledged(TypeURL.authorization) == 1)
        #expect(try client.sent(after: .take(.workloads)) == ["policies -p"])
        #expect(client.session.acknowledged(TypeURL.authorization) == 1)
        #expect(try client.sent(after: .take(.policies)) == [])
        #expect(client.session.acknowledged(TypeURL.authorization) == 2)
    }

    @Test("somebody is asked once to look again at each wait")
    func looks() throws {
        var client = Client()
        for (step, expected) in Self.settled { #expect(try client.sent(after: step) == expected) }
        #expect(client.begun.isEmpty)
        _ = try client.sent(after: .publish(["q"], ["a": ["q"]]))
        // For the workloads, and for the word that p is gone.
        #expect(client.begun == [.answer, .answer])
        _ = try client.sent(after: .pass(1000))
        #expect(client.begun.count == 2)
    }

    /// A client that answers when it is told to, and the server that it talks to.
    private struct Client {
        private var tables = DiscoveryTables()
        private(set) var session = DiscoverySession()
        private var now = ContinuousClock().now
        private var nonces: [Kind: String] = [:]
        private(set) var begun: [PushHold.Reason] = []

        mutating func sent(after step: Step) throws -> [String] {
            switch step {
            case .ask(let kind, let known):
                var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
                request.typeURL = kind.typeURL
                for name in known { request.initialResourceVersions[Self.full(name, kind)] = "old" }
                _ = try session.receive(request)
            case .take(let kind): try answer(kind, refusal: nil)
            case .refuse(let kind): try answer(kind, refusal: "bad")
            case .publish(let policies, let workloads): try publish(policies, workloads, .allow)
            case .reverse(let policies, let workloads): try publish(policies, workloads, .deny)
            case .pass(let milliseconds): now += .milliseconds(milliseconds)
            }
            var sent: [String] = []
            while true {
                let turn = try session.next(tables, now: now)
                begun += turn.begins
                guard let push = turn.push else { return sent }
                sent.append(try read(push))
            }
        }

        private mutating func answer(_ kind: Kind, refusal: String?) throws {
            var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
            request.typeURL = kind.typeURL
            let nonce = nonces.removeValue(forKey: kind)
            request.responseNonce = try #require(nonce)
            if let refusal { request.errorDetail.message = refusal }
            #expect(try session.receive(request) == .init(typeURL: kind.typeURL, refusal: refusal))
        }

        private mutating func publish(
            _ policies: [String], _ workloads: [String: [String]], _ action: AuthorizationPolicy.Action
        ) throws {
            let resources =
                policies.map { Samples.policy($0, scope: .workloadSelector, action: action) }
                + workloads.map { Samples.workload($0.key, policies: $0.value) }
            tables.apply(
                try tables.differences { table in
                    try table.difference(to: resources.filter { $0.typeURL == table.typeURL })
                })
        }

        private mutating func read(_ push: DiscoveryPush) throws -> String {
            let bytes: [UInt8] = push.bytes()
            let response = try Envoy_Service_Discovery_V3_DeltaDiscoveryResponse(serializedBytes: bytes)
            let kind: Kind = response.typeURL == TypeURL.address ? .workloads : .policies
            nonces[kind] = response.nonce
            let present = response.resources.map { " +" + Self.short($0.name) }.sorted()
            return kind.rawValue + present.joined()
                + response.removedResources.map { " -" + Self.short($0) }.sorted().joined()
        }

        private static func full(_ name: String, _ kind: Kind) -> String {
            kind == .policies ? "shop/\(name)" : "Kubernetes//Pod/shop/\(name)"
        }

        private static func short(_ name: String) -> String { String(name.split(separator: "/").last ?? "") }
    }
}
