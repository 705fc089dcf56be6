import Foundation
import Kubernetes

/// What tests ask and do in the same process.
extension TestAPIServer {
    /// The one it listens at; before it listens, the one it was given.
    public var port: Int { state.withLock { $0.port == 0 ? settings.port : $0.port } }

    /// `https://127.0.0.1:6443`.
    public var url: String {
        let host = settings.host.contains(":") ? "[\(settings.host)]" : settings.host
        return "\(settings.usesTLS ? "https" : "http")://\(host):\(port)"
    }

    /// PEM of what signs the server's certificate; `nil` without TLS.
    public var authority: String? { state.withLock { $0.credentials?.authority } }

    /// For a client of this process, as the administrator.
    public var clientConfiguration: ClusterConfiguration {
        guard let authority else { return ClusterConfiguration(server: url) }
        return ClusterConfiguration(
            server: url, trust: .authority(.bytes(Array(authority.utf8))), credentials: .token(adminToken))
    }

    /// One that speaks without TLS, for tests in its own process, and a client that may do everything there.
    public static func startInProcess() async throws -> (server: TestAPIServer, client: KubernetesClient) {
        var settings = Settings()
        settings.usesTLS = false
        let server = try await start(settings)
        return (server, KubernetesClient(server.clientConfiguration))
    }

    // MARK: Kubeconfig

    public enum KubeconfigUser: Sendable {
        /// By certificate.
        case adminCertificate
        /// By token.
        case admin
        /// By any token, as that of a service account.
        case token(String)
    }

    /// The text of a kubeconfig, with everything in it.
    /// - Parameter server: Another URL than the server's own, for who reaches it by another way.
    public func kubeconfig(_ user: KubeconfigUser = .admin, server: String? = nil) -> String {
        let credentials = state.withLock { $0.credentials }
        func base64(_ text: String) -> JSON { .string(Data(text.utf8).base64EncodedString()) }
        var cluster: JSON = ["server": .string(server ?? url)]
        if let credentials { cluster["certificate-authority-data"] = base64(credentials.authority) }
        var who: JSON = [:]
        switch user {
        case .admin: who = ["token": .string(adminToken)]
        case .token(let token): who = ["token": .string(token)]
        case .adminCertificate:
            if let credentials {
                who = [
                    "client-certificate-data": base64(credentials.clientCertificate),
                    "client-key-data": base64(credentials.clientKey),
                ]
            }
        }
        let config: JSON = [
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [["name": "test", "cluster": cluster]], "users": [["name": "test", "user": who]],
            "contexts": [["name": "test", "context": ["cluster": "test", "user": "test", "namespace": "default"]]],
        ]
        return String(decoding: config.bytes, as: UTF8.self) + "\n"
    }

    // MARK: Objects

    public struct Answer: Sendable {
        public var code: Int
        public var value: JSON
    }

    /// A request of the administrator's without the network, such as `POST /api/v1/namespaces`.
    ///
    /// - Parameter type: Of the body: `application/json`, or that of a patch.
    @discardableResult
    public func perform(
        _ method: String, _ path: String, _ body: JSON? = nil, type: String = "application/json"
    ) -> Answer {
        let parts = path.split(separator: "?", maxSplits: 1)
        var request = APIRequest(method: method, path: String(parts.first ?? ""), contentType: type)
        for item in parts.dropFirst().first?.split(separator: "&") ?? [] {
            let pair = item.split(separator: "=", maxSplits: 1)
            request.query[String(pair[0])] = pair.count > 1 ? String(pair[1]).removingPercentEncoding : ""
        }
        request.body = body?.bytes ?? []
        let now = settings.clock()
        return change { cluster in
            switch cluster.handle(request, now: now) {
            case .value(let value, let code, _): Answer(code: code, value: value)
            case .bytes(let bytes, _): Answer(code: 200, value: .string(String(decoding: bytes, as: UTF8.self)))
            case .watch: Answer(code: 400, value: "a watch needs the network")
            }
        }
    }

    /// The version of the last change.
    public var version: Int { state.withLock { $0.cluster.store.version } }

    /// Another service account's token for the server's own audience, or for others.
    public func token(
        namespace: String, account: String, audiences: [String] = [], seconds: Int = 3600, pod: String? = nil
    ) -> String? {
        var spec: JSON = ["expirationSeconds": .integer(seconds), "audiences": .list(audiences.map { .string($0) })]
        if let pod { spec["boundObjectRef"] = ["kind": "Pod", "apiVersion": "v1", "name": .string(pod)] }
        let path = "/api/v1/namespaces/\(namespace)/serviceaccounts/\(account)/token"
        return perform("POST", path, ["spec": spec]).value.at("status", "token")?.string
    }

    /// A token that nobody issued: who has it is whoever the test says. It never expires.
    ///
    /// - Parameters:
    ///   - user: As TokenReview has users (`username`, `groups`, `extra`); `nil` takes the token back.
    ///   - audiences: For whom it is; the server's own unless given.
    public func setToken(_ token: String, _ user: JSON?, audiences: [String]? = nil) {
        func texts(_ value: JSON?) -> [String] { value?.list?.compactMap(\.string) ?? [] }
        let known = user.map { user in
            (
                user: APIUser(
                    name: user["username"]?.string ?? "", groups: texts(user["groups"]),
                    extra: (user["extra"]?.members ?? [:]).mapValues { texts($0) }),
                audiences: audiences ?? [TokenAuthority.issuer]
            )
        }
        state.withLock { $0.cluster.staticTokens[token] = known }
    }

    /// Whether the server knows a kind, as after the installation or the removal of its definition. What is stored of it
    /// stays.
    /// - Parameter kind: `gateways.gateway.networking.k8s.io`, `pods`.
    public func setServes(_ kind: String, _ serves: Bool) {
        state.withLock { $0.cluster.store.kinds.setServes(kind, serves) }
    }

    // MARK: Faults

    public var faults: Faults { state.withLock { $0.faults } }

    /// Changes what goes wrong on purpose from now on. What was held back is told when nothing is any more.
    public func setFaults(_ body: @Sendable (inout Faults) -> Void) {
        state.withLock { state in
            body(&state.faults)
            tellHeldBack(&state, settings.clock())
        }
    }

    /// Nothing goes wrong any more.
    ///
    /// - Parameter cuttingWatches: Watches end in the same moment, so that none that missed something goes on as if it
    ///   had not.
    public func heal(cuttingWatches: Bool = false) {
        let watchers = state.withLock { state in
            state.faults = Faults()
            guard cuttingWatches else {
                tellHeldBack(&state, settings.clock())
                return [Watcher]()
            }
            defer { (state.watchers, state.heldBack) = ([:], []) }
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.call.cut() }
    }

    /// Ends all watches at once, in the midst of whatever they tell.
    public func cutWatches() {
        let watchers = state.withLock { state in
            defer { state.watchers = [:] }
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.call.cut() }
    }

    /// Forgets changes up to a version, or all: who wants to go on from an earlier one is told 410.
    public func compact(to version: Int? = nil) { state.withLock { $0.cluster.store.compact(to: version) } }

    /// Tokens of service accounts that were issued until now are good no longer.
    public func rotateTokenKey() { state.withLock { $0.cluster.tokens.rotate() } }

    /// A new authority and a new certificate from it, for connections from now on; the old ones go on.
    public func rotateAuthority() throws {
        guard settings.usesTLS else { return }
        let credentials = try Self.credentials(settings)
        let tls = try credentials.tlsContext()
        state.withLock { ($0.credentials, $0.tls) = (credentials, tls) }
    }

    /// Watches that are open.
    public var watches: Int { state.withLock { $0.watchers.count } }

    /// What was written over the network, the oldest first: `MANAGER VERB PLURAL NAMESPACE/NAME SUBRESOURCE`, without
    /// what there is not. Refusals count.
    public var writes: [String] { state.withLock { $0.writes } }

    /// How often something was asked: `watch`, `get pods`, `patch web`, `delete`; a verb, alone or with the last part
    /// of the path; `refused`: of whom it did not know, or by ``Faults/refusals``.
    public func count(_ what: String) -> Int { state.withLock { $0.counts[what] ?? 0 } }
}
