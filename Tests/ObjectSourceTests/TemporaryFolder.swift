import Foundation

@testable import ObjectSource

/// A folder of a test's own, gone with it.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "apus-objects-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        // Best effort: a leftover in the temporary directory harms nobody.
        try? FileManager.default.removeItem(atPath: path)
    }

    /// Whole at once, as a careful editor does it.
    func write(_ name: String, _ text: String) throws {
        try text.write(toFile: path + "/" + name, atomically: true, encoding: .utf8)
    }

    func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: path + "/" + name) }
}

struct TimedOut: Error, CustomStringConvertible {
    let last: ObjectSnapshot?
    var description: String { "timed out; the last snapshot was \(String(describing: last))" }
}

extension ObjectSource {
    /// The first snapshot, from the present one on, that fulfils the condition.
    @discardableResult
    func wait(
        _ timeout: Duration = .seconds(20), for condition: @escaping @Sendable (ObjectSnapshot) -> Bool
    ) async throws -> ObjectSnapshot {
        let stream = snapshots()
        return try await withThrowingTaskGroup(of: ObjectSnapshot?.self) { group in
            group.addTask {
                for await snapshot in stream where condition(snapshot) { return snapshot }
                return nil
            }
            group.addTask {
                try await ContinuousClock().sleep(for: timeout)
                return nil
            }
            defer { group.cancelAll() }
            guard let first = try await group.next(), let found = first else { throw TimedOut(last: snapshot()) }
            return found
        }
    }
}

func read(_ text: String, file: String = "a.yaml") -> Result<[KubernetesObject], DocumentReader.Problems> {
    DocumentReader.read(Array(text.utf8), file: file).map { $0.map(\.object) }
}

func problems(_ text: String) -> [ObjectProblem] {
    switch read(text) {
    case .success: []
    case .failure(let problems): problems.list
    }
}
