/// What was waited for and did not come in time.
public struct NotInTime: Error, CustomStringConvertible {
    public let description: String
}

/// Waits until a condition holds.
///
/// - Parameters:
///   - what: Is waited for, for the error.
///   - condition: Asked some hundred times a second.
/// - Throws: ``NotInTime``; what the condition throws; `CancellationError`.
public func eventually(
    _ what: String, within limit: Duration = .seconds(20),
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw NotInTime(description: "not within \(limit): \(what)") }
        try await ContinuousClock().sleep(for: .milliseconds(5))
    }
}
