import ObjectSource

/// Whom a token belongs to, by the server's word.
public struct ReviewedToken: Sendable, Hashable {
    /// As `system:serviceaccount:namespace:name`.
    public var user: String
    public var uid: String
    public var groups: [String]
    /// Those of the audiences asked for that the token is for.
    public var audiences: [String]
    /// As `authentication.kubernetes.io/pod-name`.
    public var extra: [String: [String]]

    /// The service account's name, where it is one.
    public var serviceAccount: ObjectName? {
        let parts = user.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "system", parts[1] == "serviceaccount", !parts[2].isEmpty,
            !parts[3].isEmpty
        else { return nil }
        return ObjectName(namespace: String(parts[2]), name: String(parts[3]))
    }
    /// The pod that the token is bound to.
    public var podName: String? { extra["authentication.kubernetes.io/pod-name"]?.first }
    public var podUID: String? { extra["authentication.kubernetes.io/pod-uid"]?.first }
    /// The node of that pod, where the cluster says it.
    public var nodeName: String? { extra["authentication.kubernetes.io/node-name"]?.first }
}

extension KubernetesClient {
    /// Asks the server about a token, and no longer than `limit`.
    ///
    /// - Returns: `nil` when the token is not good, or for none of the audiences.
    /// - Throws: `timeout` among others.
    public func review(
        token: String, audiences: [String], within limit: Duration
    ) async throws(KubernetesError) -> ReviewedToken? {
        do {
            return try await withDeadline(limit, doing: "create \(APIResource.tokenReviews)") {
                try await self.review(token: token, audiences: audiences)
            }
        } catch {
            throw KubernetesError(error, doing: "create \(APIResource.tokenReviews)")
        }
    }

    /// Asks the server about a token.
    ///
    /// - Returns: `nil` when the token is not good, or for none of the audiences.
    public func review(token: String, audiences: [String]) async throws(KubernetesError) -> ReviewedToken? {
        let answer = try await create(
            .tokenReviews,
            [
                "apiVersion": .string(APIResource.tokenReviews.apiVersion), "kind": "TokenReview",
                "spec": ["token": .string(token), "audiences": .list(audiences.map { .string($0) })],
            ])
        guard let status = answer["status"] else {
            throw KubernetesError(.badAnswer, "the answer is no TokenReview")
        }
        guard status["authenticated"]?.bool == true else { return nil }
        func strings(_ node: DocumentNode?) -> [String] { node?.elements?.compactMap(\.string) ?? [] }
        let granted = strings(status["audiences"])
        // A server that knows nothing of audiences would pass a token made for somebody else.
        guard audiences.isEmpty || !Set(granted).isDisjoint(with: audiences) else { return nil }
        guard let user = status["user"], let name = user["username"]?.string, !name.isEmpty else {
            throw KubernetesError(.badAnswer, "the answer names no user")
        }
        var extra: [String: [String]] = [:]
        for field in user["extra"]?.fields ?? [] { extra[field.name] = strings(field.value) }
        return ReviewedToken(
            user: name, uid: user["uid"]?.string ?? "", groups: strings(user["groups"]), audiences: granted,
            extra: extra)
    }
}
