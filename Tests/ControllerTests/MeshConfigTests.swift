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
            rootNamespace: mesh
            defaultConfig: {proxyMetadata: {A: "b"}}
            discoverySelectors:
              - matchLabels: {mesh: "on"}
              - matchExpressions: [{key: env, operator: In, values: [prod, test]}]
            """
        let config = try IstioMeshConfig(yaml: text, name: "x")
        #expect(config.trustDomain == "td.example" && config.rootNamespace == "mesh")
        #expect(config.discoverySelectors.count == 2)
        #expect(config.discoverySelectors[1].matches(["env": "prod"]) && !config.discoverySelectors[1].matches([:]))
        #expect(try IstioMeshConfig(yaml: "", name: "x") == IstioMeshConfig())
        for (bad, word) in [
            ("trustDomain: [a]", "trustDomain"), ("discoverySelectors: {a: b}", "discoverySelectors"),
            ("discoverySelectors: [{matchLabel: {}}]", "matchLabel"), ("a: [", "YAML"),
        ] {
            let problem = #expect(throws: ObjectProblem.self) { try IstioMeshConfig(yaml: bad, name: "the ConfigMap") }
            #expect("\(String(describing: problem))".contains(word), "\(bad)")
        }
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
        let api = try ForeignAPI()
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
