import Foundation
import Identity
import Mesh
import Synchronization

/// An authority whose answers a test gives one by one, or that answers by itself with an embedded one.
final class FakeAuthority: CertificateAuthorityClient {
    struct Call {
        let identity: SPIFFEIdentity
        let csr: String
        let continuation: CheckedContinuation<IssuedChain, any Error>
    }

    private struct State {
        var pending: [Call] = []
        /// Of every call that ever came, in order.
        var identities: [SPIFFEIdentity] = []
        var running = 0
        var mostRunning = 0
        var answersItself = false
        var failure: IdentityError?
    }

    private let directory: TemporaryDirectory
    let authority: EmbeddedCA
    let clock: ManualClock
    let validity: Duration
    private let state = Mutex(State())

    init(clock: ManualClock, validity: Duration = .seconds(3600), answersItself: Bool = false) throws {
        directory = try TemporaryDirectory()
        authority = try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: clock.now())
        self.clock = clock
        self.validity = validity
        state.withLock { $0.answersItself = answersItself }
    }

    var identities: [SPIFFEIdentity] { state.withLock { $0.identities } }
    var pending: Int { state.withLock { $0.pending.count } }
    var mostRunning: Int { state.withLock { $0.mostRunning } }

    /// From now on calls are answered as they come: with a certificate, or with this error.
    func answer(with failure: IdentityError?) {
        state.withLock { state in
            state.answersItself = true
            state.failure = failure
        }
    }

    func sign(csrPEM: String, for identity: SPIFFEIdentity, validity: Duration) async throws -> IssuedChain {
        state.withLock { state in
            state.identities.append(identity)
            state.running += 1
            state.mostRunning = max(state.mostRunning, state.running)
        }
        defer { state.withLock { $0.running -= 1 } }
        let (itself, failure) = state.withLock { ($0.answersItself, $0.failure) }
        if itself {
            if let failure { throw failure }
            return try issue(csrPEM, identity)
        }
        return try await withCheckedThrowingContinuation { continuation in
            let call = Call(identity: identity, csr: csrPEM, continuation: continuation)
            state.withLock { $0.pending.append(call) }
        }
    }

    /// Answers the oldest open call with a certificate, or with an error.
    func release(_ failure: IdentityError? = nil) {
        let call = state.withLock { $0.pending.isEmpty ? nil : $0.pending.removeFirst() }
        guard let call else { return }
        if let failure {
            call.continuation.resume(throwing: failure)
        } else {
            call.continuation.resume(with: Result { try issue(call.csr, call.identity) })
        }
    }

    private func issue(_ csr: String, _ identity: SPIFFEIdentity) throws -> IssuedChain {
        try authority.sign(csrPEM: csr, for: identity, validity: validity, now: clock.now())
    }
}

func workload(_ name: String, namespace: String = "demo", trustDomain: String = "cluster.local") -> SPIFFEIdentity {
    SPIFFEIdentity(trustDomain: trustDomain, namespace: namespace, serviceAccount: name)
}
