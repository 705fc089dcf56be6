import FoundationEssentials
public import Mesh

extension CertificateManager {
    /// All that changes. Tasks are kept so that they can be cancelled.
    struct State {
        typealias Handler = @Sendable (WorkloadCertificate) -> Void

        struct Waiter {
            let identity: SPIFFEIdentity
            let continuation: CheckedContinuation<WorkloadCertificate, any Error>
            var limit: Task<Void, Never>?

            func resume(_ outcome: Result<WorkloadCertificate, any Error>) {
                limit?.cancel()
                continuation.resume(with: outcome)
            }
        }

        struct Fetch {
            let call: Task<Void, Never>
            let watch: Task<Void, Never>
        }

        struct Timer {
            let moment: Date
            let task: Task<Void, Never>
        }

        var ledger: CertificateLedger
        var waiters: [UInt64: Waiter] = [:]
        /// Waiters whose task was cancelled before they began to wait.
        var cancelled: Set<UInt64> = []
        var fetches: [UInt64: Fetch] = [:]
        var timer: Timer?
        var handlers: [Handler] = []
        var isShutDown = false
        private var lastWaiter: UInt64 = 0

        init(ledger: CertificateLedger) { self.ledger = ledger }

        mutating func newWaiter() -> UInt64 {
            lastWaiter += 1
            return lastWaiter
        }

        mutating func takeWaiters(of identity: SPIFFEIdentity) -> [Waiter] {
            let numbers = waiters.filter { $0.value.identity == identity }.keys
            return numbers.sorted().compactMap { waiters.removeValue(forKey: $0) }
        }

        mutating func takeAllWaiters() -> [Waiter] {
            defer { waiters = [:] }
            return Array(waiters.values)
        }
    }

    /// What is known about one identity, for an operator's eyes.
    public struct Status: Sendable {
        public enum State: String, Sendable, Hashable {
            /// The first certificate is on its way.
            case initializing = "Initializing"
            /// There is a certificate in force.
            case available = "Available"
            /// There is none, and the last attempt failed.
            case unavailable = "Unavailable"
        }

        public let identity: SPIFFEIdentity
        public let state: State
        /// Of the certificate in force, where there is one: leaf first, without the roots.
        public let chain: [CertificateDetail]
        public let roots: [CertificateDetail]
        /// Of the last attempt, if that failed.
        public let error: IdentityError?
    }

    /// All identities with their certificates' state, sorted by name. Keys are not part of it.
    public var statuses: [Status] {
        let now = clock.now()
        let entries = state.withLock { $0.ledger.entries }
        return entries.map { identity, entry in
            let certificate = entry.certificate.flatMap { $0.isValid(at: now) ? $0 : nil }
            let state: Status.State =
                certificate != nil ? .available : entry.failure != nil ? .unavailable : .initializing
            return Status(
                identity: identity, state: state,
                chain: certificate?.chainDER.compactMap { CertificateDetail(der: $0) } ?? [],
                roots: certificate?.rootsDER.compactMap { CertificateDetail(der: $0) } ?? [], error: entry.failure)
        }
        .sorted { $0.identity.principal < $1.identity.principal }
    }
}
