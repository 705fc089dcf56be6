/// Runs `body`, and cancels it when it takes longer than `limit`.
/// - Throws: What `body` throws, or ``KubernetesError/Code/timeout``.
func withDeadline<Value: Sendable>(
    _ limit: Duration, doing what: String, _ body: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    try await withThrowingTaskGroup(of: Value?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            // Cancelled when the work is done first.
            try? await Task.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next(), let value = first else {
            try Task.checkCancellation()
            throw KubernetesError(
                .timeout, "the API server did not answer in time", cause: "not within \(limit), to \(what)")
        }
        return value
    }
}
