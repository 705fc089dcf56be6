import Discovery
import Foundation
import IstioAPI
import Mesh
import Observability

/// `/metrics`, `/healthz/ready`, and `/debug/resources`: what is published, to whom, and what is wrong.
enum AdminRoutes {
    static func routes(
        _ metrics: ControllerMetrics, _ readiness: Readiness, _ server: DiscoveryServer, _ publisher: MeshPublisher,
        _ remotes: RemoteClusters
    ) -> [HTTPRoute] {
        HTTPRoute.metrics(metrics.registry) + HTTPRoute.readiness(readiness) + [
            HTTPRoute("GET", "/debug/resources") { _ in .json(try document(server, publisher, remotes)) }
        ]
    }

    private struct Client: Encodable {
        var name: String
        var node: String
        var acknowledged: [String: UInt64]
    }

    private struct Cluster: Encodable {
        var id: String
        var isKnown: Bool
        var problem: String?
    }

    private static func document(
        _ server: DiscoveryServer, _ publisher: MeshPublisher, _ remotes: RemoteClusters
    ) throws -> [UInt8] {
        var workloads: [String] = []
        var services: [String] = []
        var policies: [String] = []
        for resource in server.resources {
            switch resource {
            case .workload(let workload): workloads.append(try Istio_Workload_Workload(workload).jsonString())
            case .service(let service): services.append(try Istio_Workload_Service(service).jsonString())
            case .policy(let policy): policies.append(try Istio_Security_Authorization(policy).jsonString())
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        func list(_ texts: [String]) throws -> String { String(decoding: try encoder.encode(texts), as: UTF8.self) }
        let clients = server.clients.map { Client(name: $0.name, node: $0.nodeID, acknowledged: $0.acknowledged) }
        let clusters = remotes.statuses.map {
            Cluster(id: $0.id, isKnown: $0.health.isSynced, problem: $0.health.problem)
        }
        let parts = [
            #""workloads":[\#(workloads.joined(separator: ","))]"#,
            #""services":[\#(services.joined(separator: ","))]"#,
            #""policies":[\#(policies.joined(separator: ","))]"#,
            #""clients":\#(String(decoding: try encoder.encode(clients), as: UTF8.self))"#,
            #""clusters":\#(String(decoding: try encoder.encode(clusters), as: UTF8.self))"#,
            #""clusterWarnings":\#(try list(publisher.clusterWarnings.map(\.description)))"#,
            #""problems":\#(try list(publisher.problems.map(\.description)))"#,
            #""warnings":\#(try list(publisher.warnings.map(\.description)))"#,
            #""conditions":\#(try list(publisher.conditions.map(\.description)))"#,
        ]
        return Array("{\(parts.joined(separator: ","))}\n".utf8)
    }
}
