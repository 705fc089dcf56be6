import Addressing
import Mesh
import Testing

@testable import Controller
@testable import ObjectSource

@Suite("AuthorizationPolicy")
struct AuthorizationTests {
    private typealias Match = Mesh.AuthorizationPolicy.Match

    private func policy(
        _ spec: String, namespace: String = "shop", metadata: String = "", _ configuration: MeshConfiguration = .init()
    ) throws -> (policy: Mesh.AuthorizationPolicy?, warnings: [String]) {
        let result = try Translated(
            """
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: p, namespace: \(namespace), \(metadata)}
            spec: {\(spec)}
            """, configuration)
        return (result.policies["\(namespace)/p"], result.warnings)
    }

    private func block(_ text: String) -> Mesh.AuthorizationPolicy.AddressMatch {
        CIDR(text).map { .init($0) } ?? .unparsable(text)
    }

    @Test(
        "R39: scope and action",
        arguments: [
            ("", "shop", Mesh.AuthorizationPolicy.Scope.namespace, Mesh.AuthorizationPolicy.Action.allow),
            ("action: DENY", "istio-system", .global, .deny),
            ("selector: {matchLabels: {a: b}}, action: ALLOW", "shop", .workloadSelector, .allow),
            ("selector: {matchLabels: {}}", "shop", .namespace, .allow),
        ])
    func scopes(
        spec: String, namespace: String, scope: Mesh.AuthorizationPolicy.Scope,
        action: Mesh.AuthorizationPolicy.Action
    ) throws {
        let found = try policy(spec, namespace: namespace).policy
        #expect(found?.scope == scope)
        #expect(found?.action == action)
        #expect(found?.rules == [])
    }

    @Test("R39: what is not for layer 4 is not published")
    func notPublished() throws {
        #expect(try policy("targetRefs: [{kind: Service, name: x}]").policy == nil)
        #expect(try policy("targetRefs: [{kind: Service, name: x}]").warnings == [])
        let audit = try policy("action: AUDIT")
        #expect(audit.policy == nil)
        #expect(audit.warnings == ["shop/p: the action AUDIT is not enforced"])
        let dryRun = #"annotations: {istio.io/dry-run: "true"}"#
        #expect(try policy("", metadata: dryRun).policy?.dryRun == true)
        var configuration = MeshConfiguration()
        configuration.publishesDryRun = false
        #expect(try policy("", metadata: dryRun, configuration).policy == nil)
    }

    @Test("R40: the golden policy: each part a clause, each entry a match")
    func golden() throws {
        let found = try policy(
            """
            rules: [{
              from: [{source: {principals: ["td/ns/a/sa/b", "*", "x*", "*y"], notNamespaces: [n]}},
                     {source: {serviceAccounts: [a/b, c], ipBlocks: [10.0.0.0/8, "fd00::1"]}}],
              to: [{operation: {ports: ["80"], notPorts: ["81"]}}],
              when: [{key: source.namespace, values: [m], notValues: [o]}, {key: destination.port, notValues: ["22"]},
                     {key: source.ip, values: [10.1.0.0/16]}, {key: destination.ip, values: [10.2.0.1]},
                     {key: source.principal, notValues: ["*"]}]},
              {}]
            """)
        #expect(found.warnings == [])
        #expect(
            found.policy?.rules == [
                .init(clauses: [
                    .init(matches: [Match(destinationPorts: [80], notDestinationPorts: [81])]),
                    .init(matches: [
                        Match(
                            notNamespaces: [.exact("n")],
                            principals: [.exact("td/ns/a/sa/b"), .presence, .prefix("x"), .suffix("y")]),
                        Match(
                            serviceAccounts: [
                                .init(namespace: "a", serviceAccount: "b"),
                                .init(namespace: "shop", serviceAccount: "c"),
                            ], sourceAddresses: [block("10.0.0.0/8"), block("fd00::1")]),
                    ]),
                    .init(matches: [Match(namespaces: [.exact("m")], notNamespaces: [.exact("o")])]),
                    .init(matches: [Match(notDestinationPorts: [22])]),
                    .init(matches: [Match(sourceAddresses: [block("10.1.0.0/16")])]),
                    .init(matches: [Match(destinationAddresses: [block("10.2.0.1")])]),
                    .init(matches: [Match(notPrincipals: [.presence])]),
                ]), .init(),
            ])
    }

    @Test(
        "R40: an ALLOW rule that asks for HTTP is left out, and said",
        arguments: [
            "to: [{operation: {paths: [/x]}}]", "to: [{operation: {ports: [\"80\"], methods: [GET]}}]",
            "to: [{operation: {hosts: [a]}}]", "from: [{source: {requestPrincipals: [\"*\"]}}]",
            "from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]", "when: [{key: \"request.headers[x]\", values: [y]}]",
        ])
    func allowHTTP(rule: String) throws {
        let found = try policy("rules: [{\(rule)}, {to: [{operation: {ports: [\"1\"]}}]}]")
        #expect(found.policy?.rules == [.init(clauses: [.init(matches: [Match(destinationPorts: [1])])])])
        #expect(found.warnings.count == 1)
        #expect(found.warnings.first?.contains("a rule is left out") == true)
        // With its only rule gone, an allow policy denies everything.
        #expect(try policy("rules: [{\(rule)}]").policy?.rules == [])
    }

    @Test("R40: a DENY rule loses its HTTP part: what is left denies, with nothing left it cannot, and that is said")
    func denyHTTP() throws {
        let some = try policy("action: DENY, rules: [{to: [{operation: {ports: [\"80\"], paths: [/x]}}]}]")
        #expect(some.policy?.rules == [.init(clauses: [.init(matches: [Match(destinationPorts: [80])])])])
        #expect(some.warnings.first?.contains("denies more than it says") == true)
        let none = "action: DENY, rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {paths: [/x]}}]}]"
        let lax = try policy(none)
        let from = Mesh.AuthorizationPolicy.Clause(matches: [Match(namespaces: [.exact("a")])])
        #expect(lax.policy?.rules == [.init(clauses: [.init(matches: [Match()]), from])])
        #expect(lax.warnings.first?.contains("does not deny all that it says") == true)
        var configuration = MeshConfiguration()
        configuration.strictL7Deny = true
        let strict = try policy(none, configuration)
        #expect(strict.policy?.rules == [.init(clauses: [from])])
        #expect(strict.warnings.first?.contains("denies more than it says") == true)
    }

    @Test("R41: values that are none stay, so that a condition never becomes wider")
    func unreadable() {
        // The folder refuses such values; the Kubernetes API may let them pass.
        var source = PolicySource()
        source.ipBlocks = PolicyValues(["junk"])
        var operation = PolicyOperation()
        operation.ports = PolicyValues(["junk"])
        var snapshot = ObjectSnapshot()
        snapshot.insert(
            .authorizationPolicy(
                AuthorizationPolicyObject(
                    metadata: ObjectMeta(name: "p", namespace: "shop"),
                    rules: [AuthorizationRule(from: [source], to: [operation])])))
        guard case .policy(let policy)? = MeshTranslation().resources(of: snapshot).resources.first else {
            Issue.record("no policy")
            return
        }
        #expect(
            policy.rules == [
                .init(clauses: [
                    .init(matches: [Match(destinationPorts: [.max])]),
                    .init(matches: [Match(sourceAddresses: [.unparsable("junk")])]),
                ])
            ])
    }

    @Test("R20: workloads refer to the policies that select them: of their namespace and of the root")
    func attachments() throws {
        func policy(_ name: String, _ namespace: String, _ selector: String) -> String {
            """
            ---
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: \(name), namespace: \(namespace)}
            spec: {selector: {matchLabels: {\(selector)}}}

            """
        }
        let result = try Translated(
            """
            apiVersion: v1
            kind: Pod
            metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
            status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}

            """ + policy("z", "shop", "app: web") + policy("a", "shop", "app: web, tier: front")
                + policy("miss", "shop", "app: db") + policy("root", "istio-system", "tier: front")
                + policy("far", "elsewhere", "app: web")
                    + """
                    ---
                    apiVersion: security.istio.io/v1
                    kind: PeerAuthentication
                    metadata: {name: default, namespace: istio-system}
                    spec: {mtls: {mode: STRICT}}
                    """)
        #expect(
            try result.workload("web").authorizationPolicies == [
                "istio-system/istio_converted_static_strict", "istio-system/root", "shop/a", "shop/z",
            ])
    }
}
