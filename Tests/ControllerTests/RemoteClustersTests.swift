import Addressing
import Foundation
import Kubernetes
import Mesh
import ObjectSource
import TestAPIServer
import TestSupport
import Testing

@testable import Controller

/// Where other clusters come from: folders and API servers, by the same code behind them.
@Suite("Other clusters", .serialized, .timeLimit(.minutes(2)))
struct RemoteClustersTests {
    private static let service: [String: JSON] = [
        "apiVersion": "v1", "kind": "Service",
        "metadata": ["name": "web", "namespace": "shop", "labels": ["istio.io/global": "true"]],
        "spec": ["selector": ["app": "web"], "ports": [["port": 80]]],
    ]

    private static let pod: [String: JSON] = [
        "apiVersion": "v1", "kind": "Pod",
        "metadata": [
            "name": "web-1", "namespace": "shop", "labels": ["app": "web"],
            "annotations": ["ambient.istio.io/redirection": "enabled"],
        ],
        "spec": ["nodeName": "n1", "serviceAccountName": "web", "containers": [["name": "c", "image": "c"]]],
        "status": [
            "phase": "Running", "podIPs": [["ip": "10.8.0.1"]], "podIP": "10.8.0.1",
            "conditions": [["type": "Ready", "status": "True"]],
        ],
    ]

    private static func mesh() -> MeshConfiguration {
        var mesh = MeshConfiguration()
        mesh.clusterID = "east"
        mesh.serviceScopes = [
            .init(services: LabelSelector(requirements: [.init("istio.io/global", .exists)]), scope: .global)
        ]
        return mesh
    }

    /// A cluster with a global service and its one pod.
    private func west() async throws -> TestAPIServer {
        let api = try await TestAPIServer.start()
        api.perform("POST", "/api/v1/namespaces", ["metadata": ["name": "shop"]])
        api.perform("POST", "/api/v1/namespaces/shop/services", .object(Self.service))
        #expect(api.perform("POST", "/api/v1/namespaces/shop/pods", .object(Self.pod)).code == 201)
        let status = try #require(Self.pod["status"])
        api.perform(
            "PATCH", "/api/v1/namespaces/shop/pods/web-1/status", ["status": status],
            type: "application/merge-patch+json")
        return api
    }

    private func secret(_ data: [String: String]) -> JSON {
        [
            "metadata": ["name": "remote", "labels": ["istio/multiCluster": "true"]],
            "data": .object(data.mapValues { .string(Data($0.utf8).base64EncodedString()) }),
        ]
    }

    private static let secrets = "/api/v1/namespaces/istio-system/secrets"

    @Test("R34: Secrets name other clusters; what is there is followed, and forgotten with the Secret")
    func secrets() async throws {
        let (east, west) = (try await TestAPIServer.start(), try await west())
        east.perform("POST", "/api/v1/namespaces", ["metadata": ["name": "istio-system"]])
        east.perform("POST", Self.secrets, secret(["west": west.kubeconfig()]))
        let client = KubernetesClient(east.clientConfiguration)
        var settings = ClusterControllerSettings(listen: Endpoint(.loopbackV4, 0), identity: "a")
        settings.mesh = Self.mesh()
        settings.followsOtherClusters = true
        settings.reflection.longestPause = .milliseconds(300)
        let controller = ClusterController(client, settings, logger: RunningController.quiet)
        let task = Task { try await controller.run() }
        let server = try await controller.waitForServer()
        func published() -> Set<String> { Set(server.discovery.resources.map(\.name)) }
        let pod = "west//Pod/shop/web-1"
        // The first word to proxies has the other cluster in it.
        try await eventually("ready") { server.readiness.isReady }
        #expect(published() == [pod, "shop/web.shop.svc.cluster.local"])

        // Another token for it, and its API server away for a while: what was known stands.
        await west.stop()
        let version = server.publisher.version
        let fresh = west.kubeconfig(.adminCertificate)
        #expect(east.perform("PUT", "\(Self.secrets)/remote", secret(["west": fresh])).code == 200)
        east.perform("POST", "/api/v1/namespaces", ["metadata": ["name": "other"]])
        try await eventually("the new namespace is seen") { server.publisher.version > version }
        #expect(published().contains(pod))
        try await west.resume()
        west.perform("DELETE", "/api/v1/namespaces/shop/pods/web-1")
        try await eventually("the pod is gone") { !published().contains(pod) }
        #expect(published() == ["shop/web.shop.svc.cluster.local"])

        #expect(east.perform("DELETE", "\(Self.secrets)/remote").code == 200)
        try await eventually("the cluster is forgotten") { published().isEmpty }
        task.cancel()
        try await task.value
        await client.close()
        await west.stop()
        await east.stop()
    }

    @Test(
        "R34: what may not come from a Secret, and clusters that have this one's name, are refused",
        arguments: [
            ("west", "exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}", ""),
            ("west", "tokenFile: /etc/passwd", ""), ("west", "client-certificate: /a, client-key: /b", ""),
            ("west", "token: a", "insecure-skip-tls-verify: true"),
            ("west", "token: a", "certificate-authority: /etc/passwd"), ("east", "token: a", ""), ("west", "", "a: ["),
        ])
    func refused(name: String, user: String, cluster: String) async throws {
        let east = try await TestAPIServer.start()
        east.perform("POST", "/api/v1/namespaces", ["metadata": ["name": "istio-system"]])
        let kubeconfig = """
            {apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
             clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"\(cluster.isEmpty ? "" : ", \(cluster)")}}],
             users: [{name: u, user: {\(user)}}]}
            """
        east.perform("POST", Self.secrets, secret([name: kubeconfig]))
        let client = KubernetesClient(east.clientConfiguration)
        let clusters = RemoteClusters(isListed: false)
        let secrets = RemoteSecrets(
            client, namespace: "istio-system", ownCluster: "east", into: clusters, reflection: .init(),
            log: RunningController.quiet)
        let task = Task { await secrets.run() }
        // Without delay: nobody has to be waited for.
        #expect(await clusters.waitUntilKnown(timeout: .seconds(20)) == [])
        #expect(clusters.statuses.isEmpty)
        task.cancel()
        await task.value
        await client.close()
        await east.stop()
    }

    @Test("R34: from folders, by the same rules")
    func folders() async throws {
        let folder = NSTemporaryDirectory() + "apus-remote-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for part in ["east/source", "east/status", "west/source"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(part)", withIntermediateDirectories: true)
        }
        func put(_ path: String, _ object: [String: JSON]) throws {
            let bytes = JSON.object(object).bytes
            try Data(bytes).write(to: URL(fileURLWithPath: "\(folder)/\(path)"), options: .atomic)
        }
        try put("west/source/service.json", Self.service)
        var settings = ControllerSettings(
            source: "\(folder)/east/source", status: "\(folder)/east/status", state: "\(folder)/state",
            listen: Endpoint(.loopbackV4, 0))
        settings.serving.mesh = Self.mesh()
        settings.remoteClusters = ["west": "\(folder)/west"]
        let server = try await ControllerServer(settings, logger: RunningController.quiet)
        let task = Task { try await server.run() }
        func published() -> Set<String> { Set(server.discovery.resources.map(\.name)) }
        try await eventually("ready") { server.readiness.isReady }
        #expect(published() == ["shop/web.shop.svc.cluster.local"])
        try put("west/source/pod.json", Self.pod)
        try await eventually("the pod is seen") { published().contains("west//Pod/shop/web-1") }
        task.cancel()
        try await task.value
        settings.remoteClusters = ["east": "\(folder)/west"]
        let same = await #expect(throws: ControllerError.self) {
            try await ControllerServer(settings, logger: RunningController.quiet)
        }
        #expect(same?.description.contains("--cluster-id") == true)
        settings.remoteClusters = ["west": "\(folder)/nowhere"]
        await #expect(throws: ControllerError.self) {
            try await ControllerServer(settings, logger: RunningController.quiet)
        }
    }
}
