import Addressing
import Foundation
import Mesh
import Testing

@testable import Ztunnel

@Suite("Local mesh")
struct LocalMeshTests {
    static let example = """
        workloads:
        - uid: cluster1//v1/Pod/default/local
          name: local
          namespace: default
          serviceAccount: default
          workloadIps: ["127.0.0.1", "::1"]
          protocol: HBONE
          node: local
          network: ""
          services:
            "default/example.com":
              80: 8080
              8080: 8080
          waypoint:
            destination: default/waypoint.example.com
          networkGateway:
            destination: remote/10.9.9.9
            hboneMtlsPort: 15009
          applicationTunnel: {protocol: PROXY, port: 15088}
          locality: {region: r, zone: z}
          status: Unhealthy
          authorizationPolicies: [default/deny-9999]
          capacity: 3
        policies:
        - action: Deny
          name: deny-9999
          namespace: default
          scope: WorkloadSelector
          rules:
          - - - notDestinationPorts: [9999]
                principals: [{Exact: a/ns/b/sa/c}, {Prefix: a/}, {Suffix: /c}, Presence, {Presence: {}}]
                sourceIps: [10.0.0.0/8]
                serviceAccounts: [{namespace: a, serviceAccount: b}]
        services:
        - name: local
          namespace: default
          hostname: example.com
          vips: [/127.10.0.1]
          cidrVips: [net/10.7.0.0/16]
          ports: {80: 8080, 8080: 0}
          subjectAltNames: ["spiffe://td/ns/a/sa/b"]
          loadBalancer: {mode: Failover, routingPreferences: [Region, Node], healthPolicy: AllowAll}
          ipFamilies: Dual
          canonical: true
          visibility: Namespace
          weightedWaypoints: [{destination: {destination: /10.1.1.1}, weight: 5}]
        """

    private func store(_ yaml: String) throws -> MeshState {
        let store = MeshStore()
        store.apply(try LocalMesh(yaml: yaml, from: "test").updates)
        return store.snapshot()
    }

    @Test("the documented shapes are read")
    func example() throws {
        let state = try store(Self.example)
        let workload = try #require(state.workload(uid: "cluster1//v1/Pod/default/local"))
        let key = NamespacedHostname(namespace: "default", hostname: "example.com")
        #expect(workload.tunnelProtocol == .hbone)
        #expect(workload.addresses == [.loopbackV4, .loopbackV6])
        #expect(workload.services[key] == [80: 8080, 8080: 8080])
        #expect(
            workload.waypoint
                == GatewayAddress(.hostname(NamespacedHostname(namespace: "default", hostname: "waypoint.example.com")))
        )
        #expect(workload.networkGateway?.port == 15009)
        #expect(workload.applicationTunnel == .init(framing: .proxy, port: 15088))
        #expect(workload.status == .unhealthy)
        #expect(workload.locality == Locality(region: "r", zone: "z"))
        #expect(workload.trustDomain == "cluster.local" && workload.clusterID == "Kubernetes")
        #expect(workload.capacity == 3)
        let service = try #require(state.service(key))
        #expect(service.addresses.map(\.description) == ["/127.10.0.1"])
        #expect(service.blocks.map(\.description) == ["net/10.7.0.0/16"])
        #expect(service.ports == [.init(80, target: 8080), .init(8080, target: 0)])
        #expect(
            service.loadBalancing
                == LoadBalancing(preferences: [.region, .node], mode: .failover, healthPolicy: .allowAll))
        #expect(service.ipFamilies == .dual && service.canonical && service.visibility == .namespace)
        #expect(service.weightedWaypoints.map(\.weight) == [5])
        let policy = try #require(state.policy("default/deny-9999"))
        #expect(policy.action == .deny && policy.scope == .workloadSelector)
        let match = try #require(policy.rules.first?.clauses.first?.matches.first)
        #expect(match.notDestinationPorts == [9999])
        #expect(
            match.principals == [.exact("a/ns/b/sa/c"), .prefix("a/"), .suffix("/c"), .presence, .presence])
        #expect(match.sourceAddresses.count == 1)
        #expect(match.serviceAccounts == [.init(namespace: "a", serviceAccount: "b")])
    }

    @Test("what the config dump writes can be read again, and is the same mesh")
    func roundTrip() throws {
        let state = try store(Self.example)
        let dump = try ConfigDump(
            state, certificates: [], pods: [:], pending: [:], configuration: ZtunnelConfiguration(), version: "v"
        ).json()
        let tree = try #require(try JSONSerialization.jsonObject(with: Data(dump)) as? [String: Any])
        let parts = tree.filter { ["workloads", "services", "policies"].contains($0.key) }
        // JSON is YAML.
        let text = String(decoding: try JSONSerialization.data(withJSONObject: parts), as: UTF8.self)
        let again = try store(text)
        #expect(Set(again.workloads) == Set(state.workloads))
        #expect(Set(again.services) == Set(state.services))
        #expect(again.policies.map(\.policy) == state.policies.map(\.policy))
    }

    @Test(
        "what is wrong is refused with its place",
        arguments: [
            ("workload: []", "workload: unknown field"),
            ("workloads: [{uid: a, name: a, namespace: b, services: {}, protcol: TCP}]", "workloads[0].protcol"),
            ("workloads: [{uid: a, name: a, namespace: b}]", "workloads[0].services: is missing"),
            ("workloads: [{uid: '', name: a, namespace: b, services: {}}]", "workloads[0].uid: is empty"),
            ("workloads: [{uid: a, name: a, namespace: b, services: {}, protocol: HBON}]", "HBON is none of HBONE"),
            ("workloads: [{uid: a, name: a, namespace: b, services: {}, workloadIps: [1.2.3]}]", "1.2.3 is no IP"),
            ("workloads: [{uid: a, name: a, namespace: b, services: {x: {80: 80}}}]", "x is not namespace/hostname"),
            ("workloads: [{uid: a, name: a, namespace: b, services: {a/b: {0: 80}}}]", "ports are not numbers"),
            ("workloads: [{uid: a, name: a, namespace: b, services: {a/b: {80: 70000}}}]", "workloads[0].services"),
            (
                "workloads: [{uid: a, name: a, namespace: b, services: {}, waypoint: {destination: x}}]",
                "workloads[0].waypoint.destination: x is neither"
            ),
            ("services: [{name: a, namespace: b, hostname: c, vips: [10.0.0.1]}]", "services[0].vips: 10.0.0.1"),
            ("services: [{name: a, namespace: b, hostname: c, endpoints: {u: {workloadUid: u}}}]", "no workload u"),
            ("policies: [{name: a, namespace: b, action: Deny}]", "policies[0].scope: is missing"),
            ("policies: [{name: a, namespace: b, scope: Global}]", "policies[0].action: is missing"),
            ("policies: [{name: a, namespace: b, scope: Global, action: Maybe}]", "Maybe is none of Allow, Deny"),
            (
                "policies: [{name: a, namespace: b, scope: Global, action: Deny, rules: [[[{principal: [x]}]]]}]",
                "policies[0].rules[0][0][0].principal: unknown field"
            ),
            (
                "policies: [{name: a, namespace: b, scope: Global, action: Deny, rules: [[[{principals: [x]}]]]}]",
                "write {Exact: x}"
            ),
            (
                "policies: [{name: a, namespace: b, scope: Global, action: Deny, rules: [[[{sourceIps: [x]}]]]}]",
                "x is no block"
            ),
            ("workloads: [", "test: "),
        ])
    func refused(yaml: String, words: String) {
        let error = #expect(throws: LocalMeshError.self) { _ = try LocalMesh(yaml: yaml, from: "test") }
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "no error")")
        #expect(error?.description.hasPrefix("test: ") == true)
    }

    @Test("one source at a time, and a file that is not there is named")
    func sources() throws {
        var configuration = ZtunnelConfiguration()
        #expect(try LocalMesh(configuration) == nil)
        configuration.localXDS = "workloads: []"
        #expect(try LocalMesh(configuration)?.updates.isEmpty == true)
        configuration.localXDSPath = "/nowhere/mesh.yaml"
        #expect(throws: LocalMeshError.self) { _ = try LocalMesh(configuration) }
        configuration.localXDS = nil
        let error = #expect(throws: LocalMeshError.self) { _ = try LocalMesh(configuration) }
        #expect(error?.description.contains("/nowhere/mesh.yaml") == true)
    }
}
