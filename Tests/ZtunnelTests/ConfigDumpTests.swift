import Addressing
import Foundation
import Mesh
import Testing

@testable import Ztunnel

/// The fields that `istioctl ztunnel-config` reads, by their names and types in its source.
@Suite("Config dump")
struct ConfigDumpTests {
    private func dump() throws -> [String: Any] {
        let store = MeshStore()
        store.apply(try LocalMesh(yaml: LocalMeshTests.example, from: "test").updates)
        store.apply([
            .workload(
                Workload(
                    uid: "Kubernetes//Pod/shop/early", name: "early", namespace: "shop",
                    services: [NamespacedHostname(namespace: "shop", hostname: "later.example.com"): [80: 81]]))
        ])
        let pod = PodProxy.Listing(
            name: "local", namespace: "default", serviceAccount: "default",
            entries: [
                .init(
                    inbound: true, source: "10.0.0.1:1", originalDestination: nil, actualDestination: "10.0.0.2:15008",
                    protocol: "HBONE"),
                .init(
                    inbound: false, source: "10.0.0.2:2", originalDestination: "10.0.0.3:80",
                    actualDestination: "10.0.0.4:15008", protocol: "HBONE"),
            ])
        let json = try ConfigDump(
            store.snapshot(), certificates: [], pods: ["uid-1": pod],
            pending: ["uid-2": PendingPod(name: "p", namespace: "shop", serviceAccount: "s", error: "no")],
            configuration: ZtunnelConfiguration(), version: "v"
        ).json()
        return try #require(try JSONSerialization.jsonObject(with: Data(json)) as? [String: Any])
    }

    @Test("workloads")
    func workloads() throws {
        let all = try #require(try dump()["workloads"] as? [[String: Any]])
        #expect(all.map { $0["uid"] as? String } == ["Kubernetes//Pod/shop/early", "cluster1//v1/Pod/default/local"])
        let local = try #require(all.last)
        #expect(local["workloadIps"] as? [String] == ["127.0.0.1", "::1"])
        #expect(local["protocol"] as? String == "HBONE")
        #expect(local["status"] as? String == "Unhealthy")
        #expect(local["workloadType"] as? String == "deployment")
        #expect((local["waypoint"] as? [String: Any])?["destination"] as? String == "default/waypoint.example.com")
        #expect((local["networkGateway"] as? [String: Any])?["destination"] as? String == "remote/10.9.9.9")
        #expect((local["locality"] as? [String: Any])?["zone"] as? String == "z")
        let tunnel = local["applicationTunnel"] as? [String: Any]
        #expect(tunnel?["protocol"] as? String == "PROXY" && tunnel?["port"] as? Int == 15088)
        #expect(local["authorizationPolicies"] as? [String] == ["default/deny-9999"])
        for key in [
            "name", "namespace", "serviceAccount", "workloadName", "canonicalName", "canonicalRevision", "clusterId",
            "trustDomain", "node", "network", "hostname",
        ] { #expect(local[key] is String, "\(key)") }
    }

    @Test("services with their endpoints, and endpoints without their service")
    func services() throws {
        let tree = try dump()
        let service = try #require((tree["services"] as? [[String: Any]])?.first)
        #expect(service["vips"] as? [String] == ["/127.10.0.1"])
        #expect((service["ports"] as? [String: Int]) == ["80": 8080, "8080": 0])
        let balancer = try #require(service["loadBalancer"] as? [String: Any])
        #expect(balancer["mode"] as? String == "Failover" && balancer["healthPolicy"] as? String == "AllowAll")
        #expect(balancer["routingPreferences"] as? [String] == ["Region", "Node"])
        #expect(service["ipFamilies"] as? String == "Dual")
        let endpoint = (service["endpoints"] as? [String: [String: Any]])?["cluster1//v1/Pod/default/local"]
        #expect(endpoint?["workloadUid"] as? String == "cluster1//v1/Pod/default/local")
        #expect(endpoint?["service"] as? String == "default/example.com")
        #expect(endpoint?["port"] as? [String: Int] == ["80": 8080, "8080": 8080])
        let staged = (tree["stagedServices"] as? [String: [String: Any]])?["shop/later.example.com"]
        #expect(staged?.keys.first == "Kubernetes//Pod/shop/early")
    }

    @Test("policies: rules of clauses of matches, string matches by their kind")
    func policies() throws {
        let policy = try #require((try dump()["policies"] as? [[String: Any]])?.first)
        #expect(policy["action"] as? String == "Deny" && policy["scope"] as? String == "WorkloadSelector")
        let match = try #require((policy["rules"] as? [[[[String: Any]]]])?.first?.first?.first)
        #expect(match["notDestinationPorts"] as? [Int] == [9999])
        let principals = try #require(match["principals"] as? [[String: Any]])
        #expect(principals[0]["Exact"] as? String == "a/ns/b/sa/c" && principals[1]["Prefix"] as? String == "a/")
        #expect(principals[3]["Presence"] != nil)
        #expect(match["sourceIps"] as? [String] == ["10.0.0.0/8"])
        #expect(match["namespaces"] == nil, "empty lists are left out")
    }

    @Test("pods with their connections, and those that wait")
    func workloadState() throws {
        let state = try #require(try dump()["workloadState"] as? [String: [String: Any]])
        let up = try #require(state["uid-1"])
        #expect(up["state"] as? String == "Up")
        let info = try #require(up["info"] as? [String: String])
        #expect(info["name"] == "local" && info["namespace"] == "default" && info["serviceAccount"] == "default")
        #expect(info["trustDomain"] != nil)
        let connections = try #require(up["connections"] as? [String: [[String: Any]]])
        #expect(connections["inbound"]?.first?["src"] as? String == "10.0.0.1:1")
        #expect(connections["inbound"]?.first?["actualDst"] as? String == "10.0.0.2:15008")
        let outbound = try #require(connections["outbound"]?.first)
        #expect(outbound["originalDst"] as? String == "10.0.0.3:80" && outbound["protocol"] as? String == "HBONE")
        #expect(state["uid-2"]?["state"] as? String == "Pending" && state["uid-2"]?["error"] as? String == "no")
    }
}
