import Addressing
import Testing

@testable import Mesh

@Suite("Principals across trust domains")
struct TrustDomainTests {
    static func peer(_ domain: String) -> SPIFFEIdentity {
        SPIFFEIdentity(trustDomain: domain, namespace: "web", serviceAccount: "front")
    }

    struct Row: CustomTestStringConvertible, Sendable {
        let local: String
        let aliases: [String]
        let peer: String
        let pattern: AuthorizationPolicy.StringMatch
        let matches: Bool
        var testDescription: String { "\(peer) of \(local) \(aliases) against \(pattern)" }
    }

    @Test(
        "cluster.local points to the local trust domain, and aliases stand for it",
        arguments: [
            Row(
                local: "prod", aliases: [], peer: "prod", pattern: .exact("cluster.local/ns/web/sa/front"),
                matches: true),
            Row(local: "prod", aliases: [], peer: "prod", pattern: .exact("prod/ns/web/sa/front"), matches: true),
            Row(local: "prod", aliases: [], peer: "prod", pattern: .exact("old/ns/web/sa/front"), matches: false),
            Row(local: "prod", aliases: ["old"], peer: "prod", pattern: .exact("old/ns/web/sa/front"), matches: true),
            Row(local: "prod", aliases: ["old"], peer: "old", pattern: .exact("prod/ns/web/sa/front"), matches: true),
            Row(
                local: "prod", aliases: ["old"], peer: "old", pattern: .exact("cluster.local/ns/web/sa/front"),
                matches: true),
            Row(
                local: "prod", aliases: ["old"], peer: "old", pattern: .exact("prod/ns/web/sa/back"), matches: false),
            Row(local: "prod", aliases: ["old"], peer: "old", pattern: .prefix("prod/ns/web/"), matches: true),
            Row(local: "prod", aliases: ["old"], peer: "old", pattern: .suffix("/sa/front"), matches: true),
            // A stranger is only who it says it is.
            Row(
                local: "prod", aliases: ["old"], peer: "else", pattern: .exact("prod/ns/web/sa/front"), matches: false),
            Row(
                local: "prod", aliases: [], peer: "else", pattern: .exact("cluster.local/ns/web/sa/front"),
                matches: false),
            Row(
                local: "cluster.local", aliases: [], peer: "cluster.local",
                pattern: .exact("cluster.local/ns/web/sa/front"), matches: true),
        ])
    func principals(row: Row) {
        let domains = TrustDomains(row.local, aliases: row.aliases)
        let request = AuthorizationRequest(
            sourceIdentity: Self.peer(row.peer), sourceAddress: ip("10.0.0.1"), destination: endpoint("10.0.0.9:80"))
        let rules = AuthorizationTests.one(AuthorizationPolicy.Match(principals: [row.pattern]))
        let negative = AuthorizationTests.one(AuthorizationPolicy.Match(notPrincipals: [row.pattern]))
        let matcher = AuthorizationMatcher(request, trustDomains: domains)
        #expect(matcher.fires(AuthorizationTests.policy(.allow, rules: rules)) == row.matches)
        #expect(matcher.fires(AuthorizationTests.policy(.allow, rules: negative)) != row.matches)
    }

    @Test("the trust domains of the settings reach the decision, those of a workload elsewhere do not")
    func settings() {
        var settings = MeshSettings()
        settings.trustDomains = TrustDomains("prod", aliases: ["old"])
        var state = MeshState(settings: settings)
        let policy = AuthorizationTests.policy(
            .allow, rules: AuthorizationTests.one(AuthorizationPolicy.Match(principals: [.prefix("old/")])))
        state.apply([.policy(policy.key, policy)])
        let request = AuthorizationRequest(
            sourceIdentity: Self.peer("prod"), sourceAddress: ip("10.0.0.1"), destination: endpoint("10.0.0.9:80"))
        func workload(_ domain: String) -> Workload {
            Workload(
                uid: "w", name: "w", namespace: "ns", addresses: [ip("10.0.0.9")], trustDomain: domain,
                serviceAccount: "w")
        }
        #expect(state.authorize(request, for: workload("prod")).isAllowed)
        #expect(state.authorize(request, for: workload("old")).isAllowed)
        #expect(!state.authorize(request, for: workload("foreign")).isAllowed)
    }

    @Test("names match modulo aliases, and only well-formed ones are trust domains")
    func values() {
        let domains = TrustDomains("prod", aliases: ["old", "prod"])
        #expect(domains.names == ["prod", "old"])
        #expect(domains.match(Self.peer("old"), Self.peer("prod")))
        #expect(!domains.match(Self.peer("old"), Self.peer("else")))
        #expect(domains.companions(of: "old").names == ["old", "prod"])
        #expect(domains.companions(of: "else").names == ["else"])
        for name in ["", "Prod", "a/b", "a b", "ä"] { #expect(!TrustDomains.isValid(name)) }
        for name in ["cluster.local", "a-b_c.1"] { #expect(TrustDomains.isValid(name)) }
    }
}
