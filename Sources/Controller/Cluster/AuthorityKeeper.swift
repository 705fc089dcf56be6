import Discovery
import Foundation
import Identity
import Kubernetes
import Logging
import Synchronization

/// Holds the mesh's authority in a cluster: every replica reads it, the leader makes it and replaces its root.
final class AuthorityKeeper: Sendable {
    struct Settings: Sendable {
        var times = AuthorityRecord.Times()
        /// How often it is looked at, by each replica.
        var checkInterval = Duration.seconds(60)
        var shortestPause = Duration.milliseconds(200)
        var longestPause = Duration.seconds(5)

        init() {}
    }

    private struct State {
        var authority: EmbeddedCA?
        /// Of the own authority, as it was last read or written.
        var record: AuthorityRecord?
        var isLeader = false
        /// Grows with every change of what is signed with or trusted.
        var version = 0
        var problem: String?
    }

    private let store: AuthorityStore
    private let settings: Settings
    private let now: @Sendable () -> Date
    private let log: Logger
    private let state = Mutex(State())
    let changes = ChangeSignal()

    init(
        _ store: AuthorityStore, settings: Settings = Settings(), now: @escaping @Sendable () -> Date, log: Logger
    ) {
        self.store = store
        self.settings = settings
        self.now = now
        self.log = log
    }

    var version: Int { state.withLock { $0.version } }
    var authority: EmbeddedCA? { state.withLock { $0.authority } }
    /// Why the authority cannot be read anew; `nil` while it can.
    var problem: String? { state.withLock { $0.problem } }

    /// From now on this replica makes what is missing and takes the steps that are due.
    func setLeading(_ isLeader: Bool) {
        state.withLock { $0.isLeader = isLeader }
        changes.notify()
    }

    /// Waits for the authority: until one is there, and can be used.
    ///
    /// - Throws: `CancellationError`.
    func waitForAuthority() async throws -> EmbeddedCA {
        var backoff = Backoff(shortest: settings.shortestPause, longest: settings.longestPause)
        while true {
            await check()
            if let authority { return authority }
            try await Task.sleep(for: backoff.next())
        }
    }

    /// Looks now and then whether the authority has changed, until the task is cancelled.
    func run() async {
        while !Task.isCancelled {
            let wasLeader = state.withLock { $0.isLeader }
            // A new leader looks at once.
            _ = await changes.wait(timeout: settings.checkInterval * Double.random(in: 0.75...1.25)) {
                self.state.withLock { $0.isLeader != wasLeader }
            }
            if !Task.isCancelled { await check() }
        }
    }

    func check() async {
        do {
            try await refresh()
            let was = state.withLock { state in
                defer { state.problem = nil }
                return state.problem
            }
            if was != nil { log.info("the authority can be read again") }
        } catch is CancellationError {
            return
        } catch let error as KubernetesError where error.code == .conflict {
            // Somebody was faster. What they wrote is read next.
        } catch {
            let isNews = state.withLock { state in
                defer { state.problem = "\(error)" }
                return state.problem != "\(error)"
            }
            guard isNews, !Task.isCancelled else { return }
            let has = authority != nil
            log.error(
                has ? "the authority cannot be read anew; the one in use stays" : "there is no authority to use yet",
                metadata: ["error": "\(error)"])
        }
    }

    private func refresh() async throws {
        let isLeader = state.withLock { $0.isLeader }
        switch try await store.find(now: now()) {
        case .given(let material):
            state.withLock { $0.record = nil }
            use(material, "given")
        case .own(var record, let version, let isWanted):
            if isLeader, try record.advance(to: now(), times: settings.times, isWanted: isWanted) {
                try await store.keep(record, over: version)
                log.notice("the mesh's root is being replaced", metadata: ["step": "\(record.phase.rawValue)"])
            }
            use(record)
        case .nothing: try await make()
        }
    }

    private func make() async throws {
        let (isLeader, known, isInUse) = state.withLock { ($0.isLeader, $0.record, $0.authority != nil) }
        let secret = "\(store.namespace)/\(AuthorityStore.ownName)"
        // A new one in place of one that certificates were signed with would cut everybody off from everybody.
        guard known != nil || !isInUse else {
            throw IdentityError(
                .incompleteAuthority, "the authority in use is gone from the cluster",
                hint: "put it back; for a new authority, restart the controller")
        }
        guard isLeader else { return }
        let record = try known ?? AuthorityRecord(trustDomain: store.trustDomain, now: now(), times: settings.times)
        try await store.keep(record, over: nil)
        log.notice(
            known == nil ? "the mesh has a new authority" : "the authority was deleted and is put back",
            metadata: ["secret": "\(secret)"])
        use(record)
    }

    private func use(_ record: AuthorityRecord) {
        state.withLock { $0.record = record }
        use(record.material, record.phase.rawValue)
    }

    private func use(_ material: AuthorityMaterial, _ phase: String) {
        let (isNew, isUnrelated) = state.withLock { state -> (Bool, Bool) in
            guard let authority = state.authority else {
                state.authority = EmbeddedCA(material, trustDomain: store.trustDomain)
                state.version += 1
                return (true, false)
            }
            let old = authority.material
            guard !old.isSame(as: material) else { return (false, false) }
            authority.replace(with: material)
            state.version += 1
            return (true, Set(old.rootsDER).isDisjoint(with: material.rootsDER))
        }
        guard isNew else { return }
        log.info("the authority in use", metadata: ["step": "\(phase)", "roots": "\(material.rootsDER.count)"])
        if isUnrelated {
            log.error(
                """
                the authority was replaced by one with other roots: certificates from before and after do not trust \
                each other; put the old root beside the new one in root-cert.pem until the old certificates have ended
                """)
        }
        changes.notify()
    }
}
