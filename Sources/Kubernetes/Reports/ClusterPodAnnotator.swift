import ObjectSource

/// Puts annotations on pods by merge patches of their status, which needs no right to change pods themselves.
public struct ClusterPodAnnotator: PodAnnotator {
    /// The annotations that are ours to set and to take away.
    static let owned = [MeshLabel.redirection, MeshLabel.redirectionProblem, MeshLabel.sparedConnections]

    private let client: KubernetesClient

    public init(_ client: KubernetesClient) { self.client = client }

    public func annotate(
        _ pod: PodReference, with annotations: [String: String]
    ) async throws(ObjectSourceError) {
        do throws(KubernetesError) {
            try await client.patch(
                .pods, pod.name.name, .merge(Self.patch(pod, annotations)), namespace: pod.name.namespace,
                subresource: "status")
        } catch {
            // It is gone, or a later pod has its name.
            if error.code == .notFound || error.code == .conflict && !pod.uid.isEmpty { return }
            throw ObjectSourceError(
                .unwritable, "the annotations of pod \(pod.name) cannot be written", cause: "\(error)")
        }
    }

    /// The uid makes the server refuse what is meant for an earlier pod.
    static func patch(_ pod: PodReference, _ annotations: [String: String]) -> JSON {
        var values: [String: JSON] = [:]
        for name in owned { values[name] = .null }
        for (name, value) in annotations { values[name] = .string(value) }
        var metadata: [String: JSON] = ["annotations": .object(values)]
        if !pod.uid.isEmpty { metadata["uid"] = .string(pod.uid) }
        return ["metadata": .object(metadata)]
    }
}
