public import Kubernetes
import LinuxNetwork
public import Logging
import ObjectSource

/// The ConfigMap with Istio's mesh configuration. Where there is none, the command line has its say alone.
public struct MeshConfigMap: Sendable {
    static let name = "istio"
    static let key = "mesh"

    let client: KubernetesClient
    let namespace: String
    let log: Logger

    public init(client: KubernetesClient, namespace: String, log: Logger) {
        self.client = client
        self.namespace = namespace
        self.log = log
    }

    /// - Throws: `KubernetesError`; `invalid` for one that cannot be read.
    func get() async throws(KubernetesError) -> IstioMeshConfig {
        let node: DocumentNode
        do throws(KubernetesError) {
            node = try await client.get(.configMaps, Self.name, namespace: namespace)
        } catch {
            if error.code == .notFound { return IstioMeshConfig() }
            throw error
        }
        guard let text = node["data"]?[Self.key]?.string else { return IstioMeshConfig() }
        do throws(ObjectProblem) {
            return try IstioMeshConfig(yaml: text, name: "ConfigMap \(namespace)/\(Self.name), \(Self.key)")
        } catch {
            throw KubernetesError(.invalid, "the mesh configuration cannot be used", cause: "\(error)")
        }
    }

    /// Takes what the mesh configuration says over what the settings have. Waits for the API server as long as it takes.
    ///
    /// - Throws: ``ControllerError`` `meshConfig` for one that cannot be used; `CancellationError`.
    public func apply(to settings: inout ClusterControllerSettings) async throws {
        var backoff = Backoff(shortest: .milliseconds(200), longest: .seconds(10))
        while true {
            do {
                let found = try await get()
                settings.meshConfig = found
                return try settings.mesh.take(found)
            } catch let error as KubernetesError {
                if error.code == .invalid {
                    throw ControllerError(
                        .meshConfig, "the mesh configuration cannot be used", cause: error.cause,
                        hint: "correct it, or delete the ConfigMap \(namespace)/\(Self.name)")
                }
                try Task.checkCancellation()
                log.warning("the mesh configuration cannot be read yet", metadata: ["error": "\(error)"])
                try await Task.sleep(for: backoff.next())
            }
        }
    }
}
