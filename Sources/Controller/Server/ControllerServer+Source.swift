import Foundation
import Identity
import Logging
import ObjectSource

extension ControllerServer {
    /// A controller over objects of the caller's own, with its keys in a folder.
    ///
    /// - Throws: ``ControllerError``.
    package convenience init(
        _ settings: ControllerSettings, over source: any ObjectSource, logger: Logger
    ) async throws(ControllerError) {
        try StateDirectory.prepare(settings.state, apartFrom: [settings.source, settings.status])
        let parts = try await Parts(settings, source, now: Date())
        try self.init(settings.serving, parts, logger: logger, now: { Date() })
    }

    /// Waits until this version of the objects, or a later one, is published.
    ///
    /// - Returns: False when the time was over before.
    package func waitUntilPublished(_ version: UInt64, timeout: Duration) async -> Bool {
        await publisher.waitUntilPublished(version, timeout: timeout)
    }
}

extension ControllerServer.Parts {
    /// Those of a controller that keeps its keys in a folder.
    init(_ settings: ControllerSettings, _ source: any ObjectSource, now: Date) async throws(ControllerError) {
        do {
            let authority = try EmbeddedCA(
                directory: settings.state, trustDomain: settings.serving.mesh.trustDomain, now: now)
            let tokens = try await NodeTokenIssuer(directory: settings.state)
            self.init(
                source: source, authority: authority, verifier: tokens.verifier, tokens: (tokens, settings.state))
        } catch {
            throw ControllerError(.authority, "the controller cannot be set up", cause: "\(error)")
        }
    }
}
