import Mesh

@testable import Controller
@testable import Discovery
@testable import ObjectSource

/// Objects from YAML, as a user writes them.
func objects(_ text: String) throws -> ObjectSnapshot {
    var snapshot = ObjectSnapshot()
    for object in try DocumentReader.read(Array(text.utf8), file: "test.yaml").get() { snapshot.insert(object.object) }
    return snapshot
}

struct Translated {
    var workloads: [String: Workload] = [:]
    var services: [String: Mesh.Service] = [:]
    var policies: [String: Mesh.AuthorizationPolicy] = [:]
    var warnings: [String] = []

    init(_ text: String, _ configuration: MeshConfiguration = MeshConfiguration()) throws {
        let outcome = MeshTranslation(configuration).resources(of: try objects(text))
        for resource in outcome.resources {
            switch resource {
            case .workload(let workload): workloads[workload.name] = workload
            case .service(let service): services[service.name] = service
            case .policy(let policy): policies[policy.key] = policy
            }
        }
        warnings = outcome.warnings.map(\.description)
    }

    func workload(_ name: String) throws -> Workload {
        guard let workload = workloads[name] else { throw Missing(name: name) }
        return workload
    }

    func service(_ name: String) throws -> Mesh.Service {
        guard let service = services[name] else { throw Missing(name: name) }
        return service
    }

    struct Missing: Error { let name: String }
}

/// What is published, by its own keys.
struct Published {
    var workloads: [String: Workload] = [:]
    var services: [NamespacedHostname: Mesh.Service] = [:]
    var policies: [String: Mesh.AuthorizationPolicy] = [:]
    var warnings: [PolicyWarning]
    var conditions: [ObjectCondition]
    var clusterWarnings: [ClusterWarning]
    var resources: [MeshResource]

    /// - Parameter others: Other clusters' objects.
    init(
        _ text: String, _ configuration: MeshConfiguration = MeshConfiguration(), others: [String: String] = [:]
    ) throws {
        let outcome = MeshTranslation(configuration).resources(
            of: try objects(text), try others.map { RemoteCluster(id: $0.key, objects: try objects($0.value)) })
        clusterWarnings = outcome.clusterWarnings
        warnings = outcome.warnings
        conditions = outcome.conditions
        resources = outcome.resources
        for resource in outcome.resources {
            switch resource {
            case .workload(let workload): workloads[workload.uid] = workload
            case .service(let service): services[service.key] = service
            case .policy(let policy): policies[policy.key] = policy
            }
        }
    }

    func workload(_ uid: String) throws -> Workload {
        guard let workload = workloads[uid] else { throw Translated.Missing(name: uid) }
        return workload
    }

    func service(_ host: String, _ namespace: String = "shop") throws -> Mesh.Service {
        guard let service = services[NamespacedHostname(namespace: namespace, hostname: host)] else {
            throw Translated.Missing(name: host)
        }
        return service
    }
}
