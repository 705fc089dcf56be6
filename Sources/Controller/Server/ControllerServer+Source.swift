import Foundation
import Logging
import ObjectSource

extension ControllerServer {
    /// A controller over objects of the caller's own, with its state in a folder.
    ///
    /// - Throws: ``ControllerError``.
    package convenience init(
        _ settings: ControllerSettings, over source: any ObjectSource, logger: Logger
    ) async throws(ControllerError) {
        try StateDirectory.prepare(settings.state, apartFrom: [settings.source, settings.status])
        try await self.init(settings, source: source, logger: logger, now: { Date() })
    }

    /// The version of the objects that are published.
    package var publishedVersion: UInt64 { publisher.version }
}
