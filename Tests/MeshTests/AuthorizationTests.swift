import Addressing
import Testing

@testable import Mesh

typealias Policy = AuthorizationPolicy
typealias Match = AuthorizationPolicy.Match

@Suite("Authorization")
struct AuthorizationTests {
    static let workload = pod("server", ["10.0.0.9"], policies: ["ns/listed", "other/strict"])
    static let peer = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "web", serviceAccount: "front")
    static let request = AuthorizationRequest(
        sourceIdentity: peer, sourceAddress: ip("10.0.0.1"), destination: endpoint("10.0.0.9:8080"))
    static let anonymous = AuthorizationRequest(
        sourceIdentity: nil, sourceAddress: ip("10.0.0.1"), destination: endpoint("10.0.0.9:8080"))

    static func policy(
        _ name: String, _ action: Policy.Action, rules: [Policy.Rule], namespace: String = "ns",
        scope: Policy.Scope = .namespace, dryRun: Bool = false
    ) -> Policy {
        Policy(name: name, namespace: namespace, scope: scope, action: action, rules: rules, dryRun: dryRun)
    }

    static func policy(
        _ action: Policy.Action, rules: [Policy.Rule], namespace: String = "ns", scope: Policy.Scope = .namespace
    ) -> Policy {
        policy("p", action, rules: rules, namespace: namespace, scope: scope)
    }

    static func one(_ match: Match) -> [Policy.Rule] { [.init(clauses: [.init(matches: [match])])] }
    static let always: [Policy.Rule] = [.init()]
    static let never: [Policy.Rule] = []

    func verdict(
        _ policies: [Policy], _ request: AuthorizationRequest = request, for workload: Workload = workload,
        settings: MeshSettings = MeshSettings()
    ) -> AuthorizationVerdict {
        var state = MeshState(settings: settings)
        state.apply(policies.map { .policy($0.key, $0) })
        return state.authorize(request, for: workload)
    }

    // MARK: One match

    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let match: Match
        let named: Bool
        let anonymous: Bool
        var testDescription: String { name }

        init(_ name: String, _ match: Match, _ named: Bool, anonymous: Bool) {
            self.name = name
            self.match = match
            self.named = named
            self.anonymous = anonymous
        }
    }

    static let block = Policy.AddressMatch(CIDR("10.0.0.0/24") ?? CIDR(.anyV4))
    static let other = Policy.AddressMatch(CIDR("10.0.1.0/24") ?? CIDR(.anyV4))
    static let rows: [Row] = [
        Row("empty match is skipped", Match(), false, anonymous: false),
        Row("namespace", Match(namespaces: [.exact("web")]), true, anonymous: false),
        Row("other namespace", Match(namespaces: [.exact("we")]), false, anonymous: false),
        Row("one of several namespaces", Match(namespaces: [.exact("a"), .exact("web")]), true, anonymous: false),
        Row("not namespace", Match(notNamespaces: [.exact("web")]), false, anonymous: true),
        Row("not other namespace", Match(notNamespaces: [.exact("x")]), true, anonymous: true),
        Row(
            "not one of several namespaces", Match(notNamespaces: [.exact("x"), .exact("web")]), false, anonymous: true),
        Row("principal has no scheme", Match(principals: [.exact(peer.principal)]), true, anonymous: false),
        Row("principal with scheme", Match(principals: [.exact(peer.description)]), false, anonymous: false),
        Row("principal prefix", Match(principals: [.prefix("cluster.local/ns/web/")]), true, anonymous: false),
        Row("principal suffix", Match(principals: [.suffix("/sa/front")]), true, anonymous: false),
        Row("principal presence", Match(principals: [.presence]), true, anonymous: false),
        Row("not principal presence", Match(notPrincipals: [.presence]), false, anonymous: true),
        Row("not principal", Match(notPrincipals: [.exact(peer.principal)]), false, anonymous: true),
        Row(
            "service account, any trust domain",
            Match(serviceAccounts: [.init(namespace: "web", serviceAccount: "front")]), true, anonymous: false),
        Row(
            "service account of another namespace",
            Match(serviceAccounts: [.init(namespace: "ns", serviceAccount: "front")]), false, anonymous: false),
        Row(
            "not service account", Match(notServiceAccounts: [.init(namespace: "web", serviceAccount: "front")]), false,
            anonymous: true),
        Row("source address", Match(sourceAddresses: [block]), true, anonymous: true),
        Row("other source address", Match(sourceAddresses: [other]), false, anonymous: false),
        Row("not source address", Match(notSourceAddresses: [block]), false, anonymous: false),
        Row("destination address", Match(destinationAddresses: [block]), true, anonymous: true),
        Row("not destination address", Match(notDestinationAddresses: [other]), true, anonymous: true),
        Row("port", Match(destinationPorts: [80, 8080]), true, anonymous: true),
        Row("other port", Match(destinationPorts: [80]), false, anonymous: false),
        Row("port beyond 16 bits is not cut to them", Match(destinationPorts: [65536 + 8080]), false, anonymous: false),
        Row("not port", Match(notDestinationPorts: [8080]), false, anonymous: false),
        Row("not other port", Match(notDestinationPorts: [80]), true, anonymous: true),
        Row(
            "all fields must hold", Match(namespaces: [.exact("web")], destinationPorts: [80]), false, anonymous: false),
        Row(
            "positive and negative of one field",
            Match(principals: [.prefix("cluster.local/")], notPrincipals: [.suffix("/front")]), false, anonymous: false),
    ]

    @Test("what a match matches", arguments: rows)
    func matches(_ row: Row) {
        for (request, expected) in [(Self.request, row.named), (Self.anonymous, row.anonymous)] {
            let allow = verdict([Self.policy(.allow, rules: Self.one(row.match))], request)
            #expect(allow.isAllowed == expected)
            let deny = verdict([Self.policy(.deny, rules: Self.one(row.match))], request)
            #expect(deny.isAllowed == !expected)
        }
    }

    // MARK: Empty parts

    @Test("a policy without rules never matches: allow denies all, deny does nothing")
    func noRules() {
        #expect(verdict([Self.policy(.allow, rules: Self.never)]).outcome == .notAllowed)
        #expect(verdict([Self.policy(.deny, rules: Self.never)]).outcome == .allowedByDefault)
    }

    @Test("a rule without clauses always matches")
    func noClauses() {
        #expect(verdict([Self.policy(.allow, rules: Self.always)]).outcome == .allowed(by: "ns/p"))
        #expect(verdict([Self.policy(.deny, rules: Self.always)]).outcome == .denied(by: "ns/p"))
    }

    @Test("a clause without matches is true")
    func noMatches() {
        let rules: [Policy.Rule] = [.init(clauses: [.init()])]
        #expect(verdict([Self.policy(.allow, rules: rules)]).outcome == .allowed(by: "ns/p"))
        let both: [Policy.Rule] = [
            .init(clauses: [.init(), .init(matches: [Match(destinationPorts: [1])])])
        ]
        #expect(verdict([Self.policy(.allow, rules: both)]).outcome == .notAllowed)
    }

    @Test("an empty match beside others is passed over, and alone makes its clause false")
    func emptyMatch() {
        let beside: [Policy.Rule] = [.init(clauses: [.init(matches: [Match(), Match(destinationPorts: [8080])])])]
        #expect(verdict([Self.policy(.allow, rules: beside)]).isAllowed)
        #expect(!verdict([Self.policy(.allow, rules: Self.one(Match()))]).isAllowed)
    }

    @Test("rules and matches are alternatives, clauses are not")
    func nesting() {
        let hit = Match(destinationPorts: [8080])
        let miss = Match(destinationPorts: [1])
        func fires(_ rules: [Policy.Rule]) -> Bool { !verdict([Self.policy(.deny, rules: rules)]).isAllowed }
        #expect(fires([.init(clauses: [.init(matches: [miss])]), .init(clauses: [.init(matches: [hit])])]))
        #expect(fires([.init(clauses: [.init(matches: [miss, hit])])]))
        #expect(!fires([.init(clauses: [.init(matches: [hit]), .init(matches: [miss])])]))
        #expect(fires([.init(clauses: [.init(matches: [hit]), .init(matches: [miss, hit])])]))
    }

    // MARK: Precedence

    @Test("7. no policy allows")
    func nothing() {
        let verdict = verdict([])
        #expect(verdict.outcome == .allowedByDefault)
        #expect(verdict.isAllowed && verdict.denial == nil && verdict.policy == nil)
    }

    @Test("a matching deny goes before every allow, and says who")
    func denyFirst() {
        let verdict = verdict([
            Self.policy("a", .allow, rules: Self.always), Self.policy("d", .deny, rules: Self.always),
        ])
        #expect(verdict.denial == "explicitly denied by: ns/d")
        #expect(verdict.policy == "ns/d")
    }

    @Test("one allow that matches is enough; none is a denial")
    func allows() {
        let misses = Self.policy("m", .allow, rules: Self.one(Match(destinationPorts: [1])))
        #expect(verdict([misses]).denial == "allow policies exist, but none allowed")
        #expect(verdict([misses, Self.policy("h", .allow, rules: Self.always)]).outcome == .allowed(by: "ns/h"))
        let passing = Self.policy("d", .deny, rules: Self.one(Match(destinationPorts: [1])))
        #expect(verdict([passing]).outcome == .allowedByDefault)
    }

    @Test("7. dry run is reported and never enforced, also not as the reason for denying the rest")
    func dryRun() {
        let deny = Self.policy("dry-deny", .deny, rules: Self.always, dryRun: true)
        let allow = Self.policy("dry-allow", .allow, rules: Self.always, dryRun: true)
        let missing = Self.policy("dry-miss", .allow, rules: Self.never, dryRun: true)
        let verdict = verdict([deny, allow, missing])
        #expect(verdict.outcome == .allowedByDefault)
        #expect(
            verdict.dryRun == [
                .init(policy: "ns/dry-deny", action: .deny), .init(policy: "ns/dry-allow", action: .allow),
            ])
        let enforced = self.verdict([deny, allow, Self.policy("no", .deny, rules: Self.always)])
        #expect(enforced.outcome == .denied(by: "ns/no"))
        #expect(enforced.dryRun == [.init(policy: "ns/dry-deny", action: .deny)])
    }

    // MARK: Which policies apply

    @Test("global, of the namespace, and listed ones apply; others do not")
    func scopes() {
        func applies(_ policy: Policy) -> Bool { !verdict([policy]).isAllowed }
        #expect(applies(Self.policy(.deny, rules: Self.always, namespace: "root", scope: .global)))
        #expect(applies(Self.policy(.deny, rules: Self.always)))
        #expect(!applies(Self.policy(.deny, rules: Self.always, namespace: "else")))
        #expect(!applies(Self.policy(.deny, rules: Self.always, scope: .workloadSelector)))
        #expect(applies(Self.policy("listed", .deny, rules: Self.always, scope: .workloadSelector)))
        #expect(applies(Self.policy("strict", .deny, rules: Self.always, namespace: "other", scope: .workloadSelector)))
    }

    @Test("a key nobody has sent is reported, and refused only where the settings say so")
    func unknownKeys() {
        let skipped = verdict([Self.policy(.allow, rules: Self.always)])
        #expect(skipped.isAllowed)
        #expect(skipped.unknownPolicies == ["ns/listed", "other/strict"])
        let refused = verdict([], settings: MeshSettings(unknownPolicies: .deny))
        #expect(refused.outcome == .unknownPolicy("ns/listed"))
        #expect(!refused.isAllowed && refused.denial != nil)
    }

    @Test("PeerAuthentication: STRICT, and STRICT with an exempt port")
    func peerAuthentication() {
        let strict = Self.policy(
            "strict", .deny, rules: Self.one(Match(notPrincipals: [.presence])), namespace: "other",
            scope: .workloadSelector)
        #expect(verdict([strict], Self.anonymous).denial == "explicitly denied by: other/strict")
        #expect(verdict([strict], Self.request).isAllowed)
        func exempt(_ port: UInt32) -> Policy {
            let clauses: [Policy.Clause] = [
                .init(matches: [Match(notPrincipals: [.presence])]),
                .init(matches: [Match(notDestinationPorts: [port])]),
            ]
            return Self.policy("listed", .deny, rules: [.init(clauses: clauses)], scope: .workloadSelector)
        }
        #expect(verdict([exempt(8080)], Self.anonymous).isAllowed)
        #expect(!verdict([exempt(9090)], Self.anonymous).isAllowed)
        #expect(verdict([exempt(9090)], Self.request).isAllowed)
    }

    // MARK: Values that could not be read

    @Test("a value nobody can read makes no allow match and keeps no deny from matching")
    func unparsable() {
        let address = Policy.AddressMatch(bytes: [1, 2, 3], length: 8)
        let matches = [
            Match(sourceAddresses: [address]), Match(notSourceAddresses: [address]),
            Match(destinationAddresses: [address]), Match(notDestinationAddresses: [address]),
            Match(principals: [.unparsable("")]), Match(notPrincipals: [.unparsable("")]),
            Match(namespaces: [.unparsable("")]), Match(notNamespaces: [.unparsable("")]),
        ]
        for match in matches {
            for request in [Self.request, Self.anonymous] {
                #expect(!verdict([Self.policy(.allow, rules: Self.one(match))], request).isAllowed)
                #expect(!verdict([Self.policy(.deny, rules: Self.one(match))], request).isAllowed)
            }
        }
    }

    @Test("a value that can be read decides where it can")
    func partlyUnparsable() {
        let broken = Policy.AddressMatch(bytes: [10, 0, 0, 0], length: 33)
        // Another alternative matches for certain.
        #expect(
            verdict([Self.policy(.allow, rules: Self.one(Match(sourceAddresses: [broken, Self.block])))]).isAllowed)
        // Another condition fails for certain.
        let port = Match(sourceAddresses: [broken], destinationPorts: [1])
        #expect(verdict([Self.policy(.deny, rules: Self.one(port))]).isAllowed)
        // Of the two, only the unknown one is left.
        #expect(
            !verdict([Self.policy(.deny, rules: Self.one(Match(sourceAddresses: [broken, Self.other])))]).isAllowed)
    }

    @Test("address blocks as they come on the wire")
    func blocks() {
        #expect(Policy.AddressMatch(bytes: [10, 1, 2, 3], length: 8) == .init(CIDR("10.0.0.0/8") ?? CIDR(.anyV4)))
        #expect(Policy.AddressMatch(bytes: [10, 1, 2, 3], length: 33) == .unparsable("4 bytes/33"))
        #expect(Policy.AddressMatch(bytes: [], length: 0) == .unparsable("0 bytes/0"))
        #expect(Policy.AddressMatch(bytes: [10, 1, 2, 3], length: .max) == .unparsable("4 bytes/\(UInt32.max)"))
        let mapped = ip("::ffff:10.1.2.3").bytes
        #expect(Policy.AddressMatch(bytes: mapped, length: 104) == .init(CIDR("10.0.0.0/8") ?? CIDR(.anyV4)))
    }

    @Test("addresses are compared in canonical form")
    func mapped() {
        let request = AuthorizationRequest(
            sourceIdentity: nil, sourceAddress: ip("::ffff:10.0.0.1"), destination: endpoint("[::ffff:10.0.0.9]:8080"))
        #expect(
            !verdict([Self.policy(.deny, rules: Self.one(Match(sourceAddresses: [Self.block])))], request).isAllowed)
    }

    // MARK: Against a plain model

    @Test("agrees with the written rules on random policies")
    func againstModel() {
        var random = FixedRandom(11)
        func pick<T>(_ values: [T]) -> [T] { values.filter { _ in Int.random(in: 0..<3, using: &random) == 0 } }
        func count() -> Range<Int> { 0..<Int.random(in: 0...2, using: &random) }
        for _ in 0..<3000 {
            let policies = (0..<3).map { index in
                let rules = count().map { _ in
                    Policy.Rule(
                        clauses: count().map { _ in
                            Policy.Clause(
                                matches: count().map { _ in
                                    Match(
                                        namespaces: pick([.exact("web"), .exact("x")]),
                                        notPrincipals: pick([.presence]),
                                        sourceAddresses: pick([Self.block, Self.other]),
                                        destinationPorts: pick([80, 8080]), notDestinationPorts: pick([80, 8080]))
                                })
                        })
                }
                return Self.policy("p\(index)", Bool.random(using: &random) ? .allow : .deny, rules: rules)
            }
            for request in [Self.request, Self.anonymous] {
                let denies = policies.contains { $0.action == .deny && Self.model($0, request) }
                let allows = policies.filter { $0.action == .allow }
                let expected = !denies && (allows.isEmpty || allows.contains { Self.model($0, request) })
                #expect(verdict(policies, request).isAllowed == expected)
            }
        }
    }

    /// The rules as they are written down, for the fields the random policies use.
    static func model(_ policy: Policy, _ request: AuthorizationRequest) -> Bool {
        policy.rules.contains { rule in
            rule.clauses.allSatisfy { clause in
                clause.matches.isEmpty
                    || clause.matches.contains { match in
                        guard match != Match() else { return false }
                        let namespace = request.sourceIdentity?.namespace
                        let inBlock = match.sourceAddresses.contains(block)
                        let port = UInt32(request.destination.port)
                        return
                            (match.namespaces.isEmpty
                            || namespace.map { match.namespaces.contains(.exact($0)) } ?? false)
                            && (match.notPrincipals.isEmpty || request.sourceIdentity == nil)
                            && (match.sourceAddresses.isEmpty || inBlock)
                            && (match.destinationPorts.isEmpty || match.destinationPorts.contains(port))
                            && !match.notDestinationPorts.contains(port)
                    }
            }
        }
    }
}
