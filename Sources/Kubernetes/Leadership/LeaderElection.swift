import Foundation
import Logging
import Synchronization

/// Chooses one of several programs to lead, by a Lease.
///
/// Of two candidates at most one leads at any time, as long as clocks run equally fast: who cannot renew the lease stops
/// leading before anybody else may take it.
public struct LeaderElection: Sendable {
    public struct Settings: Sendable {
        /// How long a leader that is not heard of keeps the lease; whole seconds.
        public var duration = Duration.seconds(15)
        /// How long a leader goes on without having renewed it; less than ``duration``.
        public var renewal = Duration.seconds(10)
        /// How often it is looked at, and renewed.
        public var period = Duration.seconds(2)

        public init() {}
    }

    private let client: KubernetesClient
    private let settings: Settings
    private let log: Logger
    private let first: Candidacy

    /// - Parameter identity: Of this program and no other: a pod's name with something random.
    public init(
        _ client: KubernetesClient, namespace: String, name: String, identity: String,
        settings: Settings = Settings(), log: Logger = Logger(label: "leader")
    ) {
        self.client = client
        self.settings = settings
        self.log = log
        first = Candidacy(identity: identity, namespace: namespace, name: name, duration: settings.duration)
    }

    /// Runs `lead` whenever this program leads, and cancels it when it does not any more; waits for its end before it is a
    /// candidate again. Runs until the task is cancelled, and lets go of the lease then.
    public func run(_ lead: @escaping @Sendable () async -> Void) async {
        var candidacy = first
        while !Task.isCancelled {
            guard await claim(&candidacy) else {
                await pause()
                continue
            }
            log.info(
                "leading", metadata: ["lease": "\(first.namespace)/\(first.name)", "identity": "\(first.identity)"])
            let work = Task { await lead() }
            await hold(&candidacy)
            work.cancel()
            await work.value
            log.info("no longer leading", metadata: ["lease": "\(first.namespace)/\(first.name)"])
        }
        await release(candidacy)
    }

    /// Keeps the lease. Returns when it is lost, or may soon be.
    private func hold(_ candidacy: inout Candidacy) async {
        var renewed = ContinuousClock.now
        while !Task.isCancelled {
            await pause()
            let left = settings.renewal - (ContinuousClock.now - renewed)
            guard left > .zero else { return }
            // The time of asking counts: the answer may have been under way for long.
            let asked = ContinuousClock.now
            if await claim(&candidacy, within: left) {
                renewed = asked
            } else if !candidacy.isHolder {
                return
            }
        }
    }

    /// - Returns: Whether the lease is held now, by an answer of the server.
    private func claim(_ candidacy: inout Candidacy, within limit: Duration? = nil) async -> Bool {
        let start = candidacy
        let (client, log) = (client, log)
        let known = Known(start)
        do {
            let isHeld = try await withDeadline(limit ?? settings.renewal, doing: "hold a lease") {
                let lease = try await client.lease(start.name, namespace: start.namespace)
                let now = ContinuousClock.now
                let claim = known.value.withLock { candidacy in
                    candidacy.observe(lease, at: now)
                    return candidacy.claim(at: now, time: Date().timeIntervalSince1970)
                }
                guard let claim else { return false }
                let written = try await client.write(claim)
                known.value.withLock { $0.observe(written, at: now) }
                return true
            }
            candidacy = known.value.withLock { $0 }
            return isHeld
        } catch {
            candidacy = known.value.withLock { $0 }
            // Somebody was faster: the next look says who.
            if (error as? KubernetesError)?.code != .conflict, !Task.isCancelled {
                log.warning("a lease cannot be had", metadata: ["lease": "\(start.name)", "error": "\(error)"])
            }
            return false
        }
    }

    private func release(_ candidacy: Candidacy) async {
        guard let lease = candidacy.release(time: Date().timeIntervalSince1970) else { return }
        let client = client
        // The task is cancelled already, and this must go out all the same; should it fail, the lease runs out.
        await Task { _ = try? await client.write(lease) }.value
    }

    private func pause() async {
        // Ends early when the task is cancelled, which the loops see.
        try? await Task.sleep(for: settings.period * Double.random(in: 0.8...1.2))
    }
}

/// What the work under a deadline finds out before it ends, or is ended.
private final class Known: Sendable {
    let value: Mutex<Candidacy>
    init(_ candidacy: Candidacy) { value = Mutex(candidacy) }
}
