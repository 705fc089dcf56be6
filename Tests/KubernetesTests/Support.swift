import Foundation
import Glibc
import Testing

@testable import Kubernetes

/// A folder that goes with the value.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/kube-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    // Nothing is left to do for who cannot remove it.
    deinit { try? FileManager.default.removeItem(atPath: path) }

    @discardableResult
    func write(_ name: String, _ text: String, mode: Int = 0o600) throws -> String {
        let place = "\(path)/\(name)"
        let temporary = "\(place).new"
        try text.write(toFile: temporary, atomically: false, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: temporary)
        guard rename(temporary, place) == 0 else { throw POSIXError(.EIO) }
        return place
    }
}

/// The error that `body` throws.
func failure(_ body: () async throws -> Void) async -> KubernetesError? {
    do {
        try await body()
        return nil
    } catch {
        return error as? KubernetesError
    }
}
