import Foundation
import Identity
import Logging
import Observability
import Synchronization
import TLSEngine

/// Keeps the revocation lists in force those of the file (`CRL_PATH`).
///
/// It looks at the file every second and reads it when it has changed and then rested for a second, so half-written
/// files are not met and an exchanged link is seen like any other change. A file that cannot be used (missing,
/// unreadable, malformed, also from the start) closes the door: no new tunnel in either direction until it can, and
/// readiness says so; open tunnels go on, their peers were checked by the last good lists.
final class RevocationMonitor: Sendable {
    struct Timing: Sendable {
        var interval = Duration.seconds(1)
        /// How long the file must have stayed as it is.
        var settle = Duration.seconds(1)
    }

    private struct State {
        var applied: RevocationFile.Version?
        var candidate: (version: RevocationFile.Version, since: Date)?
        var unusableSince: Date?
        var readiness: Readiness.Task?
        var lists = RevocationLists()
        var overdue: [String] = []
    }

    static let readinessTask = "certificate revocation lists"

    let store: RevocationStore
    private let file: RevocationFile
    private let metrics: RevocationMetrics
    private let readiness: Readiness
    private let clock: any IdentityClock
    private let timing: Timing
    private let logger: Logger
    private let state = Mutex(State())
    private let onRevoked = Mutex<(@Sendable (Set<CertificateKey>) -> Void)?>(nil)

    /// Reads the file for the first time.
    init(
        path: String, metrics: RevocationMetrics, readiness: Readiness,
        clock: any IdentityClock = SystemIdentityClock(),
        timing: Timing = Timing(), logger: Logger
    ) {
        file = RevocationFile(path: path)
        self.metrics = metrics
        self.readiness = readiness
        self.clock = clock
        self.timing = timing
        self.logger = logger
        store = RevocationStore(unusable: "\(path) was not read yet") { metrics.rejected($0) }
        load(file.version)
    }

    /// Called, on the monitor's task, with the certificates that a new list revokes.
    func whenRevoked(_ handler: @escaping @Sendable (Set<CertificateKey>) -> Void) {
        onRevoked.withLock { $0 = handler }
    }

    /// Watches until its task is cancelled.
    func run() async {
        while !Task.isCancelled {
            do { try await clock.wait(for: timing.interval) } catch { return }
            look()
        }
    }

    /// One look at the file.
    func look() {
        let version = file.version
        let now = clock.now()
        let isDue = state.withLock { state in
            guard version != state.applied else {
                state.candidate = nil
                return false
            }
            guard let candidate = state.candidate, candidate.version == version else {
                state.candidate = (version, now)
                return false
            }
            return now.timeIntervalSince(candidate.since) >= Double(timing.settle.components.seconds)
        }
        if isDue { load(version) } else { tellOverdue() }
    }

    private func load(_ version: RevocationFile.Version) {
        do throws(RevocationError) {
            let lists = try file.read()
            // Written while it was read: the next look finds another version and waits for it to rest.
            guard file.version == version else { return }
            accept(lists, version)
        } catch {
            refuse(error, version)
        }
    }

    private func accept(_ lists: RevocationLists, _ version: RevocationFile.Version) {
        let revoked = store.install(lists)
        let (task, since) = state.withLock { state in
            defer {
                state.applied = version
                state.candidate = nil
                state.unusableSince = nil
                state.readiness = nil
                state.lists = lists
                state.overdue = []
            }
            return (state.readiness, state.unusableSince)
        }
        task?.done()
        var metadata: Logger.Metadata = [
            "path": "\(file.path)", "certificates": "\(lists.count)", "newly_revoked": "\(revoked.count)",
        ]
        if let since { metadata["unusable_since"] = "\(since.ISO8601Format())" }
        logger.info("revocation lists in force", metadata: metadata)
        metrics.loaded(lists, overdue: 0)
        tellOverdue()
        guard !revoked.isEmpty, let handler = onRevoked.withLock({ $0 }) else { return }
        handler(revoked)
    }

    private func refuse(_ error: RevocationError, _ version: RevocationFile.Version) {
        let now = clock.now()
        let since = state.withLock { state in
            state.applied = version
            state.candidate = nil
            if state.readiness == nil { state.readiness = readiness.pending(Self.readinessTask) }
            let since = state.unusableSince ?? now
            state.unusableSince = since
            return since
        }
        metrics.unusable()
        store.refuse(
            "\(file.path) (CRL_PATH) cannot be used since \(since.ISO8601Format()): \(error)")
        logger.error(
            "revocation lists cannot be used; no new tunnel is opened or accepted until they can, open ones go on",
            metadata: ["path": "\(file.path)", "since": "\(since.ISO8601Format())", "error": "\(error)"])
    }

    /// Lists that should have had a successor stay in force: what they revoke stays revoked, and what they do not name
    /// is let in, as with a list that has come in time. Said once a load.
    private func tellOverdue() {
        let now = Int64(clock.now().timeIntervalSince1970)
        let (lists, fresh) = state.withLock { state -> (RevocationLists, [String]) in
            guard state.unusableSince == nil else { return (state.lists, []) }
            let overdue = state.lists.overdue(at: now)
            defer { state.overdue = overdue }
            return (state.lists, overdue.filter { !state.overdue.contains($0) })
        }
        guard !fresh.isEmpty else { return }
        metrics.loaded(lists, overdue: lists.overdue(at: now).count)
        for issuer in fresh {
            logger.warning(
                "a revocation list is past its next update and stays in force",
                metadata: ["path": "\(file.path)", "issuer": "\(issuer)"])
        }
    }
}
