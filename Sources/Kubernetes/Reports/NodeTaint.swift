import LinuxNetwork
import ObjectSource

/// A taint that keeps pods off a node until the mesh is ready there. It is put on when the node is made; here it goes.
public enum NodeTaint {
    /// Istio's.
    public static let notReady = "cni.istio.io/not-ready"
    private static let attempts = 5

    /// Takes every taint of a key off a node; none is no change.
    ///
    /// The whole list is tested before it is replaced, so that a taint that somebody sets at that moment stays.
    public static func remove(
        _ key: String, from node: String, _ client: KubernetesClient
    ) async throws(KubernetesError) -> Bool {
        var backoff = Backoff(shortest: .milliseconds(100), longest: .seconds(5))
        for attempt in 1...attempts {
            let object = try await client.get(.nodes, node)
            let taints = object["spec"]?["taints"]?.elements ?? []
            let kept = taints.filter { $0["key"]?.string != key }
            guard kept.count < taints.count else { return false }
            func list(_ nodes: [DocumentNode]) -> JSON { .list(nodes.map { JSON($0) }) }
            do throws(KubernetesError) {
                try await client.patch(
                    .nodes, node,
                    .operations([
                        ["op": "test", "path": "/spec/taints", "value": list(taints)],
                        ["op": "replace", "path": "/spec/taints", "value": list(kept)],
                    ]))
                return true
            } catch {
                // Somebody has changed them in between: 409, or 422 for the test that failed.
                guard attempt < attempts, error.code == .conflict || error.code == .invalid else { throw error }
                // Ends early when the task is cancelled; the next request says so.
                try? await Task.sleep(for: backoff.next())
            }
        }
        return false
    }
}
