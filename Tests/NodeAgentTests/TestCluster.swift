import Foundation
import Handover
import Kubernetes
import Logging
import ObjectSource
import Observability
import TestAPIServer
import TestSupport
import Testing

@testable import NodeAgent

/// An API server in this process, and a client to do there what users and kubelet do.
final class TestCluster: Sendable {
    private let server: TestAPIServer
    let client: KubernetesClient

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

    // MARK: What users and kubelet do

    func createNamespace(_ name: String) async throws {
        try await client.create(
            .namespaces, ["apiVersion": "v1", "kind": "Namespace", "metadata": ["name": .string(name)]])
    }

    /// As `kubectl label` does.
    func label(_ namespace: String, ambient: Bool) async throws {
        try await client.patch(
            .namespaces, namespace,
            .merge(["metadata": ["labels": [MeshLabel.dataplaneMode: ambient ? "ambient" : nil]]]))
    }

    /// - Returns: The pod's uid.
    @discardableResult
    func createPod(_ name: String, node: String = "n1") async throws -> String {
        let pod = try await client.create(
            .pods,
            [
                "apiVersion": "v1", "kind": "Pod", "metadata": ["name": .string(name)],
                "spec": ["nodeName": .string(node), "containers": [["name": "main", "image": "i"]]],
            ], namespace: "shop")
        return try #require(pod["metadata"]?["uid"]?.string)
    }

    func annotation(of pod: String) async throws -> String? {
        try await client.get(.pods, pod, namespace: "shop")["metadata"]?["annotations"]?[MeshLabel.redirection]?.string
    }

    /// Reasons of the Events on a pod, sorted.
    func events(on pod: String) async throws -> [String] {
        try await client.list(.events).items
            .filter { $0["involvedObject"]?["name"]?.string == pod }
            .compactMap { $0["reason"]?.string }.sorted()
    }
}

/// An agent that reads from an API server and reports to it; kernel, keeper and plugin as in the other tests.
final class ClusterAgent: Sendable {
    let source: ClusterObjectSource
    let keeper: FakeKeeper
    let agent: NodeAgent
    private let events: ClusterEventRecorder
    private let task: Task<Void, any Error>

    init(_ cluster: TestCluster, _ folder: TemporaryFolder, objectWait: Duration = .seconds(5)) async throws {
        let log = Logger(label: "agent") { _ in SwiftLogNoOpLogHandler() }
        var times = ReflectorSettings()
        times.longestPause = .milliseconds(300)
        source = ClusterObjectSource(
            cluster.client,
            [
                .init(.pod, ObjectSelection(fields: "spec.nodeName=n1")), .init(.namespace),
                .init(.peerAuthentication),
            ], settings: times, log: log)
        events = ClusterEventRecorder(cluster.client, component: "apus-agent", instance: "n1", log: log)
        var configuration = NodeAgentConfiguration(nodeName: "n1", runDirectory: folder.path + "/run")
        configuration.namespacesAreObjects = true
        configuration.objectWait = objectWait
        configuration.peerUpdateTime = .milliseconds(20)
        configuration.drainPoll = .milliseconds(5)
        configuration.verifyInterval = .seconds(3600)
        let journal = Journal()
        keeper = FakeKeeper(journal)
        agent = try NodeAgent(
            configuration, source: source, annotator: ClusterPodAnnotator(cluster.client), events: events,
            backend: WatchedBackend(journal, Means.nftables.backend()), keeper: keeper, log: log)
        let agent = agent
        task = Task { try await agent.run() }
        try await eventually("the agent is ready") { await agent.isReady }
    }

    func call(_ verb: CNIRequest.Verb, _ name: String, _ pod: FakePod, uid: String = "") async -> CNIReply {
        let request = CNIRequest(
            verb: verb, networkName: "mesh", containerID: "c-\(name)", interfaceName: "eth0", netnsPath: pod.path,
            podName: name, podNamespace: "shop", podUID: uid, addresses: ["\(pod.address)/24"])
        return await agent.answer(CNICall(request: request, namespace: .success(pod.namespace)))
    }

    func stop() async throws {
        task.cancel()
        try await task.value
        source.close()
        events.close()
    }
}
