import Mesh
import Testing

@testable import Controller

@Suite("PeerAuthentication")
struct PeerAuthenticationTests {
    private static let pod = """
        apiVersion: v1
        kind: Pod
        metadata: {name: web, namespace: shop, labels: {app: web}}
        status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}

        """
    private static let strict = "istio-system/istio_converted_static_strict"
    private static let converted = "shop/converted_peer_authentication_own"

    private func policy(
        _ name: String, _ namespace: String, mode: String = "", ports: [String: String] = [:],
        selector: String = "", created: String = ""
    ) -> String {
        let list = ports.sorted { $0.key < $1.key }.map { "\($0.key): {mode: \($0.value)}" }.joined(separator: ", ")
        return """
            ---
            apiVersion: security.istio.io/v1
            kind: PeerAuthentication
            metadata: {name: \(name), namespace: \(namespace)\(created.isEmpty ? "" : ", creationTimestamp: \(created)")}
            spec: {\([
                selector.isEmpty ? nil : "selector: {matchLabels: {\(selector)}}",
                mode.isEmpty ? nil : "mtls: {mode: \(mode)}", ports.isEmpty ? nil : "portLevelMtls: {\(list)}",
            ].compactMap { $0 }.joined(separator: ", "))}

            """
    }

    private func references(_ policies: String) throws -> [String] {
        try Translated(Self.pod + policies).workload("web").authorizationPolicies
    }

    @Test("R36: without any there is no policy; with any there is the one for all")
    func staticPolicy() throws {
        #expect(try Translated(Self.pod).policies.isEmpty)
        let result = try Translated(Self.pod + policy("default", "shop", mode: "PERMISSIVE"))
        #expect(
            result.policies == [
                Self.strict: Mesh.AuthorizationPolicy(
                    name: "istio_converted_static_strict", namespace: "istio-system", scope: .workloadSelector,
                    action: .deny, rules: [.init(clauses: [.init(matches: [.init(notPrincipals: [.presence])])])])
            ])
        #expect(try result.workload("web").authorizationPolicies == [])
    }

    @Test(
        "R37: the nearest mode counts: mesh, namespace, workload",
        arguments: [
            ("STRICT", nil, nil, true), (nil, "STRICT", nil, true), (nil, nil, "STRICT", true),
            ("STRICT", "PERMISSIVE", nil, false), ("STRICT", "UNSET", nil, true), ("STRICT", "DISABLE", nil, false),
            ("STRICT", nil, "PERMISSIVE", false), ("STRICT", nil, "UNSET", true), ("STRICT", nil, "DISABLE", false),
            ("PERMISSIVE", "STRICT", nil, true), ("UNSET", nil, nil, false), (nil, "UNSET", "UNSET", false),
            ("PERMISSIVE", "PERMISSIVE", "STRICT", true),
        ] as [(String?, String?, String?, Bool)])
    func modes(mesh: String?, namespace: String?, workload: String?, isStrict: Bool) throws {
        var text = ""
        if let mesh { text += policy("mesh", "istio-system", mode: mesh) }
        if let namespace { text += policy("ns", "shop", mode: namespace) }
        if let workload { text += policy("own", "shop", mode: workload, selector: "app: web") }
        // Of no concern: another namespace, other labels, a selector in the root namespace.
        text += policy("other", "elsewhere", mode: isStrict ? "PERMISSIVE" : "STRICT")
        text += policy("labels", "shop", mode: isStrict ? "PERMISSIVE" : "STRICT", selector: "app: db")
        text += policy("rootsel", "istio-system", mode: isStrict ? "PERMISSIVE" : "STRICT", selector: "app: web")
        #expect(try references(text) == (isStrict ? [Self.strict] : []))
    }

    @Test("R37: the oldest of several counts, then the first by name")
    func age() throws {
        let old = policy("zz", "shop", mode: "STRICT", created: "2020-01-01T00:00:00Z")
        let new = policy("aa", "shop", mode: "PERMISSIVE", created: "2021-01-01T00:00:00Z")
        #expect(try references(new + old) == [Self.strict])
        #expect(try references(new + policy("bb", "shop", mode: "STRICT")) == [])
        #expect(
            try references(policy("a", "shop", mode: "STRICT") + policy("b", "shop", mode: "PERMISSIVE")) == [
                Self.strict
            ])
    }

    enum Converted: Sendable { case none, exempt([UInt32]), only([UInt32]) }

    @Test(
        "R38: port modes",
        arguments: [
            // workload mode, inherited, ports, policy, reference
            ("STRICT", "PERMISSIVE", ["80": "STRICT"], Converted.none, strict),
            ("STRICT", "PERMISSIVE", ["80": "PERMISSIVE"], .exempt([80]), converted),
            (
                "STRICT", "PERMISSIVE", ["80": "DISABLE", "81": "STRICT", "82": "PERMISSIVE"], .exempt([80, 82]),
                converted
            ),
            ("PERMISSIVE", "STRICT", ["80": "STRICT"], .only([80]), converted),
            ("PERMISSIVE", "STRICT", ["80": "STRICT", "81": "STRICT", "82": "DISABLE"], .only([80, 81]), converted),
            ("DISABLE", "STRICT", ["80": "STRICT"], .only([80]), converted),
            ("PERMISSIVE", "STRICT", ["80": "PERMISSIVE"], .none, nil),
            ("UNSET", "STRICT", ["80": "PERMISSIVE"], .exempt([80]), converted),
            ("UNSET", "STRICT", ["80": "DISABLE"], .exempt([80]), converted),
            ("UNSET", "STRICT", ["80": "STRICT"], .none, strict),
            ("UNSET", "PERMISSIVE", ["80": "STRICT"], .only([80]), converted),
            ("UNSET", "PERMISSIVE", ["80": "PERMISSIVE"], .none, nil),
            ("STRICT", "PERMISSIVE", ["80": "UNSET"], .none, strict),
        ] as [(String, String, [String: String], Converted, String?)])
    func ports(
        mode: String, inherited: String, ports: [String: String], expected: Converted, reference: String?
    ) throws {
        let result = try Translated(
            Self.pod + policy("ns", "shop", mode: inherited)
                + policy("own", "shop", mode: mode, ports: ports, selector: "app: web"))
        #expect(try result.workload("web").authorizationPolicies == (reference.map { [$0] } ?? []))
        let noIdentity = Mesh.AuthorizationPolicy.Clause(matches: [.init(notPrincipals: [.presence])])
        let rules: [Mesh.AuthorizationPolicy.Rule]? =
            switch expected {
            case .none: nil
            case .exempt(let ports):
                [.init(clauses: [noIdentity, .init(matches: [.init(notDestinationPorts: ports)])])]
            case .only(let ports):
                ports.map { .init(clauses: [noIdentity, .init(matches: [.init(destinationPorts: [$0])])]) }
            }
        #expect(result.policies[Self.converted]?.rules == rules)
        #expect(result.policies[Self.converted]?.action == (rules == nil ? nil : .deny))
        #expect(result.policies[Self.converted]?.scope == (rules == nil ? nil : .workloadSelector))
    }
}
