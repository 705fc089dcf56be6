import Testing

/// Waits until `condition` holds, and records an issue when it does not within ten seconds.
func eventually(
    _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async -> Bool
) async {
    let limit = ContinuousClock.now + .seconds(10)
    while ContinuousClock.now < limit {
        if await condition() { return }
        do {
            try await ContinuousClock().sleep(for: .milliseconds(1))
        } catch {
            break  // The test was cancelled: the issue below says what it waited for.
        }
    }
    Issue.record(what, sourceLocation: sourceLocation)
}
