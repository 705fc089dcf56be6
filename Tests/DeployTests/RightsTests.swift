import Foundation
import Testing

/// What each part may ask of the API server. This table is the place where a right is given; the chart has those and no
/// other, and each is there for a call that the program makes.
@Suite("Rights")
struct RightsTests {
    struct Right: Hashable, CustomStringConvertible {
        var role: String
        var resource: String
        var verbs: Set<String>
        var names: Set<String> = []

        init(_ role: String, _ resource: String, _ verbs: String, names: String = "") {
            self.role = role
            self.resource = resource
            self.verbs = Set(verbs.split(separator: " ").map(String.init))
            self.names = Set(names.split(separator: " ").map(String.init))
        }

        var description: String { "\(role): \(verbs.sorted()) \(resource) \(names.sorted())" }
    }

    static let agent = "ClusterRole/apus-agent-istio-system"
    static let controller = "ClusterRole/apus-controller-istio-system"
    static let own = "Role/apus-controller"

    static let granted: Set<Right> = [
        // Informers list and watch, and never get.
        Right(agent, "pods", "list watch"),
        Right(agent, "namespaces", "list watch"),
        Right(agent, "peerauthentications.security.istio.io", "list watch"),
        // ambient.istio.io/redirection, by a merge patch of the status.
        Right(agent, "pods/status", "patch"),
        Right(agent, "events", "create patch"),

        Right(controller, "namespaces", "list watch"),
        Right(controller, "nodes", "list watch"),
        Right(controller, "pods", "list watch"),
        Right(controller, "services", "list watch"),
        Right(controller, "endpointslices.discovery.k8s.io", "list watch"),
        Right(controller, "authorizationpolicies.security.istio.io", "list watch"),
        Right(controller, "peerauthentications.security.istio.io", "list watch"),
        Right(controller, "serviceentries.networking.istio.io", "list watch"),
        Right(controller, "workloadentries.networking.istio.io", "list watch"),
        Right(controller, "gateways.gateway.networking.k8s.io", "list watch"),
        Right(controller, "gatewayclasses.gateway.networking.k8s.io", "list watch"),
        Right(controller, "authorizationpolicies/status.security.istio.io", "patch"),
        Right(controller, "serviceentries/status.networking.istio.io", "patch"),
        Right(controller, "workloadentries/status.networking.istio.io", "patch"),
        Right(controller, "services/status", "patch"),
        Right(controller, "events", "create patch"),
        Right(controller, "tokenreviews.authentication.k8s.io", "create"),
        Right(controller, "configmaps", "create"),
        Right(controller, "configmaps", "list patch watch", names: "istio-ca-root-cert"),
        Right(own, "leases.coordination.k8s.io", "create"),
        Right(own, "leases.coordination.k8s.io", "get update", names: "apus-controller"),
        Right(own, "configmaps", "get", names: "istio"),
        Right(own, "secrets", "create"),
        Right(own, "secrets", "get", names: "cacerts"),
        Right(own, "secrets", "get update", names: "istio-ca-secret"),
    ]

    @Test func theChartGivesTheseAndNoOther() throws {
        var found: Set<Right> = []
        for role in try Chart.render() where ["Role", "ClusterRole"].contains(role.kind) {
            for rule in role["rules"].items {
                for group in rule["apiGroups"].texts {
                    for resource in rule["resources"].texts {
                        var right = Right(
                            "\(role.kind)/\(role.name)", group.isEmpty ? resource : "\(resource).\(group)", "")
                        right.verbs = Set(rule["verbs"].texts)
                        right.names = Set(rule["resourceNames"].texts)
                        found.insert(right)
                    }
                }
            }
        }
        #expect(found.subtracting(Self.granted) == [])
        #expect(Self.granted.subtracting(found) == [])
    }

    @Test func theNodesObjectIsTheAgentsOnlyForItsTaint() throws {
        let role = try Chart.render(#"{"agent":{"removeTaint":true}}"#).one("ClusterRole", "apus-agent-istio-system")
        let rules = role["rules"].items.filter { $0["resources"].texts == ["nodes"] }
        #expect(rules.map { $0["verbs"].texts } == [["get", "patch"]])
    }

    @Test func secretsAreReadByLabelOnlyWhereThereAreOtherClusters() throws {
        func rules(_ values: Chart.Values) throws -> [[String]] {
            try Chart.render(values).one("Role", "apus-controller")["rules"].items
                .filter { $0["resources"].texts == ["secrets"] && $0["resourceNames"].texts.isEmpty }
                .map { $0["verbs"].texts }
        }
        #expect(try rules("{}") == [["create"]])
        #expect(try rules(#"{"multiCluster":{"enabled":true}}"#) == [["create"], ["list", "watch"]])
    }

    @Test func nothingIsGivenWholesale() {
        for right in Self.granted {
            #expect(!right.resource.contains("*") && !right.verbs.contains("*"))
            #expect(right.verbs.isDisjoint(with: ["delete", "deletecollection", "impersonate", "escalate", "bind"]))
            // Keys and the roots of the mesh by their names.
            if right.resource == "secrets", right.verbs != ["create"] { #expect(!right.names.isEmpty) }
        }
    }

    @Test func everyRoleIsOfOneAccount() throws {
        let objects = try Chart.render()
        for binding in objects where binding.kind.hasSuffix("RoleBinding") {
            let subjects = binding["subjects"].items
            #expect(subjects.map { $0["kind"].text } == ["ServiceAccount"])
            #expect(objects.contains { $0.kind == "ServiceAccount" && $0.name == subjects.first?.name })
            #expect(
                objects.contains {
                    $0.kind == binding["roleRef", "kind"].text && $0.name == binding["roleRef", "name"].text
                })
        }
    }
}
