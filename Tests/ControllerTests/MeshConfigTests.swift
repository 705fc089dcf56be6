import Addressing
import Kubernetes
import Mesh
import ObjectSource
import Testing

@testable import Controller

@Suite("Istio's mesh configuration", .serialized, .timeLimit(.minutes(2)))
struct MeshConfigTests {
    @Test("what is taken from it, and what is wrong with it")
    func reading() throws {
        let text = """
            accessLogFile: /dev/stdout
            trustDomain: td.example
            trustDomainAliases: [old.example, cluster.local]
            rootNamespace: mesh
            defaultConfig: {proxyMetadata: {A: "b"}}
            discoverySelectors:
              - matchLabels: {mesh: "on"}
              - matchExpressions: [{key: env, operator: In, values: [prod, test]}]
            serviceScopeConfigs:
              - {servicesSelector: {matchLabels: {share: "no"}}, scope: LOCAL}
              - {namespaceSelector: {matchLabels: {share: "yes"}}, scope: GLOBAL}
            serviceEntryVisibility:
              defaultVisibility: NAMESPACE
              policies:
                - visibility: PUBLIC
                  matchingRules:
                    - {namespaceSelector: {matchLabels: {a: "1"}}}
                    - {namespaceSelector: {matchExpressions: [{key: b, operator: Exists}]}}
                - {visibility: NONE, matchingRules: [{namespaceSelector: {matchLabels: {c: "1"}}}]}
            """
        let config = try IstioMeshConfig(yaml: text, name: "x")
        #expect(config.trustDomain == "td.example" && config.rootNamespace == "mesh")
        #expect(config.discoverySelectors.count == 2)
        #expect(config.discoverySelectors[1].matches(["env": "prod"]) && !config.discoverySelectors[1].matches([:]))
        #expect(config.trustDomainAliases == ["old.example", "cluster.local"])
        #expect(config.serviceScopes.map(\.scope) == [.local, .global])
        #expect(try IstioMeshConfig(yaml: "", name: "x") == IstioMeshConfig())
        var mesh = MeshConfiguration()
        try mesh.take(config)
        #expect(mesh.trustDomain == "td.example" && mesh.trustDomainAliases.count == 2 && mesh.rootNamespace == "mesh")
        let visibilities = [["a": "1", "b": ""], ["a": "1"], ["a": "2", "b": ""], ["c": "1"], [:]].map {
            mesh.visibility(ofEntriesIn: $0)
        }
        #expect(visibilities == [.everywhere, .namespace, .namespace, .none, .namespace], "R30")
        // What it does not say stays.
        var kept = mesh
        try kept.take(IstioMeshConfig())
        #expect(kept == mesh)
        for (bad, word) in [
            ("trustDomain: [a]", "trustDomain"), ("discoverySelectors: {a: b}", "discoverySelectors"),
            ("discoverySelectors: [{matchLabel: {}}]", "matchLabel"), ("a: [", "YAML"),
            ("serviceScopeConfigs: [{scope: GLOBALE}]", "GLOBAL"),
            ("serviceEntryVisibility: {policies: [{matchingRules: [{hostnameSuffix: a}]}]}", "hostnameSuffix"),
            ("serviceEntryVisibility: {policies: [{matchingRules: [{}]}]}", "namespaceSelector"),
        ] {
            let problem = #expect(throws: ObjectProblem.self) { try IstioMeshConfig(yaml: bad, name: "the ConfigMap") }
            #expect("\(String(describing: problem))".contains(word), "\(bad)")
        }
    }

    @Test("a trust domain that is none is refused by its field")
    func wrongTrustDomain() throws {
        for field in ["trustDomain: A.example", "trustDomainAliases: [fine, spiffe://x]"] {
            var mesh = MeshConfiguration()
            let error = #expect(throws: ControllerError.self) {
                try mesh.take(IstioMeshConfig(yaml: field, name: "x"))
            }
            #expect(error?.description.contains(String(field.prefix { $0 != ":" })) == true)
        }
    }

    @Test(
        "R41: with aliases a principal of the mesh is meant in each of its trust domains",
        arguments: [
            ("new/ns/a/sa/b", ["new/ns/a/sa/b", "old/ns/a/sa/b", "older/ns/a/sa/b"]),
            ("old/ns/a/*", ["old/ns/a/*", "new/ns/a/*", "older/ns/a/*"]),
            (
                "cluster.local/ns/a/sa/b",
                ["cluster.local/ns/a/sa/b", "new/ns/a/sa/b", "old/ns/a/sa/b", "older/ns/a/sa/b"]
            ),
            ("other/ns/a/sa/b", ["other/ns/a/sa/b"]), ("*/sa/b", ["*/sa/b"]), ("*", ["*"]), ("ol*", ["ol*"]),
        ])
    func aliases(principal: String, expected: [String]) throws {
        func principals(_ aliases: [String]) throws -> [[Mesh.AuthorizationPolicy.StringMatch]] {
            var configuration = MeshConfiguration()
            configuration.trustDomain = "new"
            configuration.trustDomainAliases = aliases
            let mesh = try Published(
                """
                apiVersion: security.istio.io/v1
                kind: AuthorizationPolicy
                metadata: {name: p, namespace: shop}
                spec:
                  action: DENY
                  rules:
                    - from: [{source: {principals: ["\(principal)"]}}]
                    - from: [{source: {notPrincipals: ["\(principal)"]}}]
                    - when: [{key: source.principal, values: ["\(principal)"]}]
                """, configuration)
            let matches = try #require(mesh.policies["shop/p"]).rules.flatMap(\.clauses).flatMap(\.matches)
            return matches.map { $0.principals + $0.notPrincipals }
        }
        #expect(try principals(["old", "older"]) == Array(repeating: expected.map(RuleTranslation.string), count: 3))
        #expect(try principals([]) == Array(repeating: [RuleTranslation.string(principal)], count: 3))
    }

    @Test("namespaces that no selector matches are not the mesh's, whatever is in them; the root namespace always is")
    func discovery() throws {
        func yaml(_ namespace: String) -> String {
            """
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: \(namespace)}
            spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}
            ---
            apiVersion: v1
            kind: Pod
            metadata: {name: web, namespace: \(namespace)}
            status: {podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
            ---
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: deny, namespace: \(namespace)}
            spec: {action: DENY, rules: [{}]}
            ---

            """
        }
        let namespaces = """
            apiVersion: v1
            kind: Namespace
            metadata: {name: shop, labels: {mesh: "on"}}
            ---
            apiVersion: v1
            kind: Namespace
            metadata: {name: other}
            """
        var configuration = MeshConfiguration()
        let text = ["shop", "other", "istio-system"].map(yaml).joined() + namespaces
        #expect(try Published(text, configuration).resources.count == 9)
        configuration.discoverySelectors = [LabelSelector(labels: ["mesh": "on"])]
        let mesh = try Published(text, configuration)
        #expect(Set(mesh.policies.keys) == ["shop/deny", "istio-system/deny"])
        #expect(Set(mesh.services.keys.map(\.namespace)) == ["shop", "istio-system"])
        #expect(Set(mesh.workloads.values.map(\.namespace)) == ["shop", "istio-system"])
    }

    @Test("it has its say over the command line, and a wrong one is refused by its field")
    func inACluster() async throws {
        let api = try await ClusterAPI()
        try await api.namespace("istio-system")
        let map = MeshConfigMap(
            client: api.client(token: "a"), namespace: "istio-system", log: RunningController.quiet)
        var settings = ClusterControllerSettings(listen: Endpoint(.loopbackV4, 0), identity: "a")
        settings.mesh.trustDomain = "by.option"
        try await map.apply(to: &settings)
        #expect(settings.mesh.trustDomain == "by.option")
        try await api.create(
            .configMaps, "istio", in: "istio-system", ["data": ["mesh": "trustDomain: td.example\n"]])
        try await map.apply(to: &settings)
        #expect(settings.mesh.trustDomain == "td.example" && settings.mesh.rootNamespace == "istio-system")
        try await api.client.patch(
            .configMaps, "istio", .merge(["data": ["mesh": "trustDomain: [1]\n"]]), namespace: "istio-system")
        let error = await #expect(throws: ControllerError.self) { try await map.apply(to: &settings) }
        #expect(error?.code == .meshConfig && error?.description.contains("trustDomain") == true)
    }
}
