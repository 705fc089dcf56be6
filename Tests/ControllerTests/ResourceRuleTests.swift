import Addressing
import Discovery
import IstioAPI
import Mesh
import Testing

@testable import Controller
@testable import ObjectSource

@Suite("Resources and their names")
struct ResourceRuleTests {
    private static let pod = """
        apiVersion: v1
        kind: Pod
        metadata: {name: web-1, namespace: shop, labels: {app: web, istio.io/rev: other}}
        spec: {nodeName: n1, serviceAccountName: web}
        status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}

        """
    private static let strict = """
        ---
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: default, namespace: shop}
        spec: {mtls: {mode: STRICT}}

        """
    private static func policy(_ spec: String, _ metadata: String = "", namespace: String = "shop") -> String {
        """
        ---
        apiVersion: security.istio.io/v1
        kind: AuthorizationPolicy
        metadata: {name: p, namespace: \(namespace), \(metadata)}
        spec: {\(spec)}

        """
    }

    @Test("R1: names and aliases of services and workloads; R2: the uid of a pod")
    func names() throws {
        let service = """
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop}
            spec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}

            """
        let root =
            "---\n{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {topology.istio.io/network: n}}}\n"
        let found = try Published(Self.pod + service + root).resources
        #expect(found.map(\.name) == ["Kubernetes//Pod/shop/web-1", "shop/web.shop.svc.cluster.local"])
        #expect(found.map(\.aliases) == [["n/10.0.0.1"], ["n/10.96.0.1"]])
        #expect(found.allSatisfy { $0.typeURL == TypeURL.address })
    }

    @Test("R5: policies of both origins are of one type, by namespace and name")
    func policyResources() throws {
        let found = try Published(Self.pod + Self.strict + Self.policy("")).resources
        #expect(
            found.filter { $0.typeURL == TypeURL.authorization }.map(\.name) == [
                "istio-system/istio_converted_static_strict", "shop/p",
            ])
    }

    @Test("R6: configuration of another revision is not read; pods of any are")
    func revision() throws {
        let rev = "labels: {istio.io/rev: canary}"
        let entry = """
            ---
            apiVersion: networking.istio.io/v1
            kind: ServiceEntry
            metadata: {name: e, namespace: shop, \(rev)}
            spec: {hosts: [a.example]}
            ---
            apiVersion: networking.istio.io/v1
            kind: WorkloadEntry
            metadata: {name: vm, namespace: shop, \(rev)}
            spec: {address: 192.0.2.1}

            """
        let text = Self.pod + Self.policy("", rev) + entry
        let other = try Published(text)
        #expect(other.resources.map(\.name) == ["Kubernetes//Pod/shop/web-1"])
        #expect(other.conditions.isEmpty)
        var configuration = MeshConfiguration()
        configuration.revision = "canary"
        #expect(try Published(text, configuration).resources.count == 4)
        #expect(try Published(Self.policy("", "labels: {istio.io/rev: default}")).policies.count == 1)
    }

    @Test("R16: a pod is where its node is")
    func locality() throws {
        let node = """
            ---
            apiVersion: v1
            kind: Node
            metadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z, topology.istio.io/subzone: s}}

            """
        let uid = "Kubernetes//Pod/shop/web-1"
        #expect(try Published(Self.pod + node).workload(uid).locality == Locality(region: "r", zone: "z", subzone: "s"))
        #expect(try Published(Self.pod).workload(uid).locality == Locality())
    }

    @Test("R11: the network is the root namespace's, never the pod's")
    func network() throws {
        let text = Self.pod.replacing("app: web,", with: "topology.istio.io/network: mine,")
        #expect(try Published(text).workload("Kubernetes//Pod/shop/web-1").network == "")
    }

    @Test(
        "R26: address families",
        arguments: [
            ("", Mesh.Service.IPFamilies.automatic), ("IPv4", .v4Only), ("IPv6", .v6Only), ("IPv6, IPv4", .dual),
        ])
    func families(text: String, expected: Mesh.Service.IPFamilies) throws {
        let service = """
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop}
            spec: {ipFamilies: [\(text)], ports: [{port: 80}]}
            """
        #expect(try Published(service).service("web.shop.svc.cluster.local").ipFamilies == expected)
    }

    @Test(
        "R42: conditions that layer 4 knows",
        arguments: [
            ("source.ip", "10.0.0.0/8", true), ("source.namespace", "a", true), ("source.principal", "a", true),
            ("destination.ip", "10.0.0.1", true), ("destination.port", "80", true),
            ("request.auth.principal", "a", false), ("connection.sni", "a", false),
        ])
    func conditionKeys(key: String, value: String, isKnown: Bool) throws {
        let found = try Published(Self.policy("rules: [{when: [{key: \(key), values: [\"\(value)\"]}]}]"))
        #expect(found.policies["shop/p"]?.rules.count == (isKnown ? 1 : 0))
        #expect(found.warnings.map(\.effect) == (isKnown ? [] : [.stricter]))
    }

    @Test("R41: how values are compared")
    func strings() {
        #expect(RuleTranslation.string("*") == .presence)
        #expect(RuleTranslation.string("*/sa/x") == .suffix("/sa/x"))
        #expect(RuleTranslation.string("td/*") == .prefix("td/"))
        #expect(RuleTranslation.string("td/ns/a/sa/b") == .exact("td/ns/a/sa/b"))
    }

    @Test("R40: what a warning means: stricter, weaker, or not in force")
    func effects() throws {
        func effect(_ spec: String) throws -> PolicyWarning.Effect? {
            try Published(Self.policy(spec)).warnings.first?.effect
        }
        #expect(try effect("rules: [{to: [{operation: {paths: [/x]}}]}]") == .stricter)
        #expect(try effect("action: DENY, rules: [{to: [{operation: {paths: [/x], ports: [\"80\"]}}]}]") == .stricter)
        #expect(try effect("action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]") == .weaker)
        #expect(try effect("action: CUSTOM") == .ignored)
        #expect(try effect("action: DENY, rules: [{to: [{operation: {ports: [\"80\"]}}]}]") == nil)
    }

    @Test(
        "R43: deny first, then an allow has to match where there is one",
        arguments: [
            ("", "", "a", true), ("from: [{source: {namespaces: [a]}}]", "", "a", true),
            ("from: [{source: {namespaces: [a]}}]", "", "b", false),
            ("from: [{source: {namespaces: [a]}}]", "from: [{source: {namespaces: [a]}}]", "a", false),
            ("", "from: [{source: {namespaces: [a]}}]", "b", true),
        ])
    func evaluation(allow: String, deny: String, source: String, expected: Bool) throws {
        var text = Self.pod
        if !allow.isEmpty { text += Self.policy("rules: [{\(allow)}]") }
        if !deny.isEmpty {
            text += Self.policy("action: DENY, rules: [{\(deny)}]", namespace: "istio-system")
        }
        let mesh = try Published(text)
        var state = MeshState()
        _ = state.apply(mesh.policies.map { .policy($0.key, $0.value) })
        let verdict = state.authorize(
            AuthorizationRequest(
                sourceIdentity: SPIFFEIdentity(trustDomain: "cluster.local", namespace: source, serviceAccount: "x"),
                sourceAddress: IPAddress(10, 0, 0, 9), destination: Endpoint(IPAddress(10, 0, 0, 1), 80)),
            for: try mesh.workload("Kubernetes//Pod/shop/web-1"))
        #expect(verdict.isAllowed == expected)
    }
}
