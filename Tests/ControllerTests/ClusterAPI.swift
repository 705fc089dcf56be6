import Addressing
import Foundation
import Kubernetes
import Logging
import ObjectSource
import Synchronization
import TestAPIServer
import TestSupport
import Testing

@testable import Controller
@testable import Identity

/// An API server in this process, and a client to do there what users do.
final class ClusterAPI: Sendable {
    let server: TestAPIServer
    let client: KubernetesClient
    private let issued = Mutex<Set<String>>([])

    var port: Int { server.port }

    init() async throws { (server, client) = try await TestAPIServer.startInProcess() }

    /// As SIGKILL has it.
    func die() async { await server.stop() }

    func revive() async throws {
        try await server.resume()
        // The client may still have a connection that ended with the server, and learn of it by a request alone.
        try await eventually("the server answers") {
            do {
                _ = try await client.get(.namespaces, "default")
                return true
            } catch let error as KubernetesError where error.code == .unreachable {
                return false
            } catch {
                return true
            }
        }
    }

    /// A client that shows a token, as each replica has its own.
    func client(token: String) -> KubernetesClient {
        admit(token)
        var settings = ClientSettings()
        settings.requestTimeout = .seconds(2)
        settings.fieldManager = "apus-controller"
        return KubernetesClient(
            ClusterConfiguration(server: server.url, credentials: .token(token)), settings: settings)
    }

    /// Lets a token's bearer in.
    func admit(_ token: String) { server.setToken(token, ["username": "replica", "groups": ["system:masters"]]) }

    // MARK: What users and kubelets do

    func create(_ resource: APIResource, _ name: String, in namespace: String = "", _ more: [String: JSON] = [:])
        async throws
    {
        var object = more
        object["apiVersion"] = .string(resource.apiVersion)
        object["kind"] = .string(resource.kind)
        var metadata: [String: JSON] = ["name": .string(name)]
        if case .object(let extra)? = more["metadata"] { metadata.merge(extra) { $1 } }
        object["metadata"] = .object(metadata)
        try await client.create(resource, .object(object), namespace: resource.isNamespaced ? namespace : nil)
    }

    func namespace(_ name: String) async throws { try await create(.namespaces, name) }

    @discardableResult
    func pod(_ name: String, account: String, node: String, in namespace: String = "shop") async throws -> String {
        let spec: JSON = [
            "nodeName": .string(node), "serviceAccountName": .string(account),
            "containers": [["name": "main", "image": "i"]],
        ]
        try await create(.pods, name, in: namespace, ["spec": spec])
        let pod = try await client.patch(
            .pods, name, .merge(["status": ["phase": "Running"]]), namespace: namespace, subresource: "status")
        return try #require(pod["metadata"]?["uid"]?.string)
    }

    static let policies = APIResource(ObjectKind.authorizationPolicy)

    func denyByPath(_ name: String, in namespace: String = "shop") async throws {
        try await create(
            Self.policies, name, in: namespace,
            ["spec": ["action": "DENY", "rules": [["to": [["operation": ["paths": ["/admin"]]]]]]]])
    }

    func condition(_ type: String, of policy: String, in namespace: String = "shop") async throws -> DocumentNode? {
        try await client.get(Self.policies, policy, namespace: namespace)["status"]?["conditions"]?.elements?
            .first { $0["type"]?.string == type }
    }

    /// Says what TokenReview is to know of tokens; of those from before it knows nothing any more.
    func tokens(_ tokens: [String: JSON]) {
        let old = issued.withLock { issued in
            defer { issued = Set(tokens.keys) }
            return issued
        }
        for token in old { server.setToken(token, nil) }
        for (token, user) in tokens {
            guard case .object(let fields) = user, case .list(let audiences)? = fields["audiences"] else { continue }
            server.setToken(
                token, user,
                audiences: audiences.compactMap { if case .string(let text) = $0 { text } else { nil } })
        }
    }

    /// Who gets no answer.
    func away(_ tokens: [String]) { server.setFaults { $0.unanswered = Set(tokens) } }

    static func podToken(
        _ account: String, pod: String, uid: String, in namespace: String = "istio-system", node: String? = nil
    ) -> JSON {
        var extra: [String: JSON] = [
            "authentication.kubernetes.io/pod-name": [.string(pod)],
            "authentication.kubernetes.io/pod-uid": [.string(uid)],
        ]
        if let node { extra["authentication.kubernetes.io/node-name"] = [.string(node)] }
        return [
            "audiences": ["istio-ca"], "username": .string("system:serviceaccount:\(namespace):\(account)"),
            "groups": ["system:serviceaccounts", "system:authenticated"], "extra": .object(extra),
        ]
    }

    func roots(in namespace: String) async throws -> String? {
        do throws(KubernetesError) {
            return try await client.get(.configMaps, RootPublisher.name, namespace: namespace)["data"]?[
                "root-cert.pem"]?
                .string
        } catch {
            guard error.code == .notFound else { throw error }
            return nil
        }
    }
}

/// A replica of the controller of a cluster, with times that are short.
final class Replica: Sendable {
    let name: String
    let controller: ClusterController
    private let client: KubernetesClient
    private let task: Task<Void, any Error>

    init(
        _ name: String, _ api: ClusterAPI, now: @escaping @Sendable () -> Date = { Date() },
        authority: @Sendable (inout AuthorityKeeper.Settings) -> Void = { _ in },
        _ change: @Sendable (inout ClusterControllerSettings) -> Void = { _ in }
    ) {
        self.name = name
        client = api.client(token: name)
        var settings = ClusterControllerSettings(listen: Endpoint(.loopbackV4, 0), identity: name)
        settings.election.duration = .seconds(3)
        settings.election.renewal = .seconds(2)
        settings.election.period = .milliseconds(100)
        settings.reflection.longestPause = .milliseconds(300)
        settings.reflection.missingKindInterval = .milliseconds(300)
        change(&settings)
        var keeping = AuthorityKeeper.Settings()
        keeping.checkInterval = .milliseconds(200)
        keeping.longestPause = .milliseconds(300)
        authority(&keeping)
        controller = ClusterController(
            client, settings, authority: keeping, logger: RunningController.quiet, now: now)
        let controller = controller
        task = Task { try await controller.run() }
    }

    /// Its server, once it serves.
    func serving() async throws -> ControllerServer {
        let server = try await controller.waitForServer()
        do {
            try await eventually("\(name) is ready") { server.readiness.isReady }
        } catch {
            Issue.record("\(server.readiness.pendingTasks), \(server.health)")
            throw error
        }
        return server
    }

    func stop() async throws {
        task.cancel()
        try await task.value
        await client.close()
    }
}
