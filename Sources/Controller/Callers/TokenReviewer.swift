import Foundation
import Identity
import Kubernetes
import ObjectSource

/// Says whom a token belongs to by asking the API server.
///
/// A ztunnel asks for a certificate for each identity on its node with the same token, so what the server said of a token
/// is kept for a short while, by the token's hash; a token that is being asked about is not asked about twice.
actor TokenReviewer: CallerVerifier {
    struct Settings: Sendable {
        /// How long the server's word counts: what a token that was revoked is good for.
        var memory = Duration.seconds(30)
        /// Tokens remembered, at most.
        var maximumRemembered = 16_384
        /// Tokens asked about at once, at most; more than that are told to come again.
        var maximumAsking = 256
        var timeout = Duration.seconds(10)

        init() {}
    }

    private typealias Answer = Result<Caller, IdentityError>

    private struct Memory {
        var caller: Caller
        var until: ContinuousClock.Instant
        /// When the token itself says that it ends.
        var expiry: Date
    }

    private static let serviceAccounts = "system:serviceaccounts"

    private let client: KubernetesClient
    private let audiences: [String]
    private let settings: Settings
    private var memory: [TokenDigest: Memory] = [:]
    private var asking: [TokenDigest: Task<Answer, Never>] = [:]

    /// - Parameter audiences: A token must be for one of them.
    init(_ client: KubernetesClient, audiences: [String], settings: Settings = Settings()) {
        self.client = client
        self.audiences = audiences
        self.settings = settings
    }

    func caller(token: String, now: Date) async throws(IdentityError) -> Caller {
        let digest = TokenDigest(token)
        if let known = memory[digest], ContinuousClock.now < known.until, now < known.expiry { return known.caller }
        if let task = asking[digest] { return try await task.value.get() }
        guard asking.count < settings.maximumAsking else {
            throw IdentityError(.authorityUnreachable, "too many tokens are being asked about")
        }
        let (client, audiences, timeout) = (client, audiences, settings.timeout)
        let task = Task { await Self.ask(token, client, audiences, timeout) }
        asking[digest] = task
        let answer = await task.value
        asking[digest] = nil
        let caller = try answer.get()
        remember(caller, digest, BearerToken.claimedExpiry(of: token) ?? .distantFuture)
        return caller
    }

    private func remember(_ caller: Caller, _ digest: TokenDigest, _ expiry: Date) {
        if memory.count >= settings.maximumRemembered {
            let now = ContinuousClock.now
            memory = memory.filter { now < $0.value.until }
            if memory.count >= settings.maximumRemembered { memory = [:] }
        }
        memory[digest] = Memory(caller: caller, until: .now + settings.memory, expiry: expiry)
    }

    private static func ask(
        _ token: String, _ client: KubernetesClient, _ audiences: [String], _ timeout: Duration
    ) async -> Answer {
        let reviewed: ReviewedToken?
        do {
            reviewed = try await client.review(token: token, audiences: audiences, within: timeout)
        } catch {
            return .failure(
                IdentityError(
                    .authorityUnreachable, "the API server cannot say whose the token is", cause: error))
        }
        guard let reviewed else {
            return .failure(
                IdentityError(
                    .tokenSignature,
                    "the API server does not know the token, or not for \(audiences.joined(separator: " or "))"))
        }
        guard reviewed.groups.contains(serviceAccounts), let account = reviewed.serviceAccount else {
            return .failure(IdentityError(.tokenSubject, "the token of \(reviewed.user) is no service account's"))
        }
        return .success(
            Caller(
                namespace: account.namespace, serviceAccount: account.name, node: reviewed.nodeName ?? "",
                pod: reviewed.podName.map { name in
                    PodReference(
                        name: ObjectName(namespace: account.namespace, name: name), uid: reviewed.podUID ?? "")
                }))
    }
}
