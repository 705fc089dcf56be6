import Addressing
import Foundation
import Kubernetes
import Logging
import ObjectSource
import Testing

@testable import Controller
@testable import Identity

/// Waits until a condition holds.
func eventually(
    _ what: String, within limit: Duration = .seconds(20), _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        try #require(ContinuousClock.now < deadline, "not in time: \(what)")
        try await ContinuousClock().sleep(for: .milliseconds(20))
    }
}

/// An API server as `Tests/Peers/kube_api.py` plays it, and a client to do there what users do.
final class ForeignAPI: @unchecked Sendable {
    static let kinds =
        "services,endpointslices,authorizationpolicies,serviceentries,gateways,gatewayclasses,configmaps,secrets,leases,"
        + "tokenreviews"

    // One test uses it, in one task.
    private var process: Process
    private let folder: String
    private let kinds: String
    let port: Int
    let client: KubernetesClient

    init(kinds: String = ForeignAPI.kinds) throws {
        folder = NSTemporaryDirectory() + "apus-api-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        self.kinds = kinds
        (process, port) = try Self.start(port: 0, folder + "/state.json", kinds)
        client = KubernetesClient(ClusterConfiguration(server: "http://127.0.0.1:\(port)"))
    }

    deinit {
        // SIGTERM may be blocked in what this process starts.
        kill(process.processIdentifier, SIGKILL)
        // Left in the machine's temporary files otherwise.
        try? FileManager.default.removeItem(atPath: folder)
    }

    private static func start(port: Int, _ state: String, _ kinds: String) throws -> (Process, Int) {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Peers/kube_api.py").path
        let (process, output) = (Process(), Pipe())
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["python3", script, String(port), state, kinds]
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        // "port N", or nothing when it could not listen.
        let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        let number = line.split(whereSeparator: \.isWhitespace).last.flatMap { Int($0) }
        return (process, try #require(number, "the API server did not start"))
    }

    /// As SIGKILL has it.
    func die() {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    func revive() throws { (process, _) = try Self.start(port: port, folder + "/state.json", kinds) }

    /// A client that shows a token, as each replica has its own.
    func client(token: String) -> KubernetesClient {
        var settings = ClientSettings()
        settings.requestTimeout = .seconds(2)
        settings.fieldManager = "apus-controller"
        return KubernetesClient(
            ClusterConfiguration(server: "http://127.0.0.1:\(port)", credentials: .token(token)), settings: settings)
    }

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
        try await create(
            .pods, name, in: namespace,
            [
                "spec": ["nodeName": .string(node), "serviceAccountName": .string(account)],
                "status": ["phase": "Running"],
            ])
        let pod = try await client.get(.pods, name, namespace: namespace)
        return try #require(pod["metadata"]?["uid"]?.string)
    }

    static let policies = APIResource(ObjectKind.authorizationPolicy)

    func denyByPath(_ name: String, in namespace: String = "shop") async throws {
        try await create(
            Self.policies, name, in: namespace,
            [
                "metadata": ["generation": 3],
                "spec": ["action": "DENY", "rules": [["to": [["operation": ["paths": ["/admin"]]]]]]],
            ])
    }

    func condition(_ type: String, of policy: String, in namespace: String = "shop") async throws -> DocumentNode? {
        try await client.get(Self.policies, policy, namespace: namespace)["status"]?["conditions"]?.elements?
            .first { $0["type"]?.string == type }
    }

    /// Says what TokenReview is to know of tokens.
    func tokens(_ tokens: [String: JSON]) async throws {
        try await put("tokens", tokens.mapValues { .string(String(decoding: $0.bytes, as: UTF8.self)) })
    }

    /// Who gets no answer.
    func away(_ tokens: [String]) async throws {
        try await put("away", Dictionary(uniqueKeysWithValues: tokens.map { ($0, "yes") }))
    }

    private func put(_ name: String, _ data: [String: JSON]) async throws {
        do throws(KubernetesError) {
            try await client.update(
                .configMaps, name,
                ["metadata": ["name": .string(name), "namespace": "kube-system"], "data": .object(data)],
                namespace: "kube-system")
        } catch {
            try await create(.configMaps, name, in: "kube-system", ["data": .object(data)])
        }
    }

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

    /// Who wrote what: `MANAGER VERB PLURAL NAMESPACE/NAME SUBRESOURCE` a line.
    func writes() async throws -> [String] {
        try await client.get(.configMaps, "writes", namespace: "kube-system")["data"]?["lines"]?.string?
            .split(separator: "\n").map(String.init) ?? []
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
        _ name: String, _ api: ForeignAPI, now: @escaping @Sendable () -> Date = { Date() },
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
