import Foundation
import Glibc
import Kubernetes
import LinuxNetwork
import TestAPIServer
import Testing

@testable import LocalCluster

/// A mesh whose agents follow an API server, which `kubectl` writes to; the test plays the kubelets.
struct KubernetesMesh {
    let cluster: LocalCluster
    let server: TestAPIServer
    private let kubectl: String
    private var adminConfig: String { "\(cluster.layout.folder)/admin.kubeconfig" }

    /// The account that the chart gives the agents.
    private static let account = (namespace: "istio-system", name: "ztunnel")

    /// Builds it with the objects of `examples/shop`, runs `body`, takes it down, and sees to it that nothing is left.
    static func run(_ body: (KubernetesMesh, Stage) throws -> Void) async throws {
        let python = try Self.python()
        var configuration = try LocalCluster.Configuration(kind: .test, programs: TestMesh.programs())
        let layout = configuration.layout
        configuration.kubeconfig = "\(layout.folder)/agent.kubeconfig"
        let mesh = try KubernetesMesh(LocalCluster(configuration), python)
        do {
            try await mesh.up()
            try body(mesh, try Stage(mesh.cluster))
        } catch {
            let words = mesh.cluster.nodes.map { "node \($0.name):\n  \($0.lastWords())" }.joined(separator: "\n")
            // The first error is the one to tell.
            try? mesh.cluster.down()
            await mesh.server.stop()
            throw TestMesh.Failure(error: error, logs: words)
        }
        try mesh.cluster.down()
        await mesh.server.stop()
        #expect(layout.existingNamespaces() == [])
        #expect(!FileManager.default.fileExists(atPath: layout.folder))
    }

    private init(_ cluster: LocalCluster, _ python: String) throws {
        self.cluster = cluster
        kubectl = URL(fileURLWithPath: python).deletingLastPathComponent().appending(path: "kubectl").path
        var settings = TestAPIServer.Settings()
        let (host, port) = (RunLayout.underlayV4(RunLayout.controllerHost), UInt16(6443))
        settings.host = host
        settings.port = Int(port)
        settings.enforcesRoles = true
        let namespace = RunLayout.namespacePath(cluster.layout.controller)
        settings.makeSocket = {
            try NetworkNamespace(path: namespace).run { () throws in try Self.listen(host, port) }
        }
        server = try TestAPIServer(settings)
        try Files.replace(adminConfig, with: server.kubeconfig())
    }

    private static func listen(_ host: String, _ port: UInt16) throws -> CInt {
        let socket = try check("make a socket") { Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) }
        var (address, on) = (sockaddr_in(), CInt(1))
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        inet_pton(AF_INET, host, &address.sin_addr)
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<CInt>.size))
        try check("bind to \(host):\(port)") {
            withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        try check("listen") { Glibc.listen(socket, 128) }
        return socket
    }

    private static func python() throws -> String {
        var command = Command([TestMesh.repository("scripts/deploy-python")])
        command.timeout = .seconds(660)
        let result = try command.run()
        guard result.status == 0 else { throw command.failure(result) }
        return result.text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private func up() async throws {
        server.perform("POST", "/api/v1/namespaces", ["metadata": ["name": .string(Self.account.namespace)]])
        server.perform(
            "POST", "/api/v1/namespaces/\(Self.account.namespace)/serviceaccounts",
            ["metadata": ["name": .string(Self.account.name)]])
        let token = try #require(server.token(namespace: Self.account.namespace, account: Self.account.name))
        try Files.replace("\(cluster.layout.folder)/agent.kubeconfig", with: server.kubeconfig(.token(token)))
        try cluster.raise()
        try await server.resume()
        // The agents have the rights that the chart gives them, and no others; DeployTests hold this file against it.
        try kubectl("apply", "-f", TestMesh.repository("deploy/manifests/apus.yaml"))
        for node in cluster.nodes { try kubectl("create", "-f", "-", input: Self.node(node)) }
        // The folder's files are taken in the order of their names, and nothing waits for its namespace.
        try kubectl("apply", "-f", TestMesh.repository("examples/shop/namespace.yaml"))
        try kubectl("apply", "-f", TestMesh.repository("examples/shop"))
        // What has no API server here reads the same objects from the run's folder.
        for kind in ["namespace", "serviceaccount", "service", "pod"] {
            let words = kind == "namespace" ? [kind, Stage.namespace] : [kind, "-n", Stage.namespace]
            for name in try kubectl(["get"] + words + ["-o", "name"]).split(separator: "\n") {
                let object = try kubectl("get", String(name), "-n", Stage.namespace, "-o", "json")
                try cluster.source.put("\(name.replacing("/", with: "-")).yaml", object)
            }
        }
        try cluster.waitForController()
        for node in cluster.nodes { try cluster.waitForNode(node) }
        try cluster.startPods()
        for pod in cluster.pods { report(pod) }
        let stage = try Stage(cluster)
        try Waiting.untilTrue("the server to answer", within: .seconds(20)) {
            // It is refused until the server listens.
            (try? stage.driver.get(stage.http(), path: "/ready").status) == 200
        }
    }

    private static func node(_ node: LocalNode) -> String {
        #"{"apiVersion":"v1","kind":"Node","metadata":{"name":"\#(node.name)"}}"#
    }

    /// As its kubelet reports a pod that runs.
    private func report(_ pod: LocalPod) {
        let addresses = pod.addresses.map { JSON.string("\($0)") }
        server.perform(
            "PATCH", "/api/v1/namespaces/\(pod.manifest.namespace)/pods/\(pod.manifest.name)/status",
            [
                "status": [
                    "phase": "Running", "hostIP": .string(pod.node.address),
                    "podIPs": .list(addresses.map { ["ip": $0] }),
                    "podIP": addresses.first ?? "", "conditions": [["type": "Ready", "status": "True"]],
                ]
            ], type: "application/strategic-merge-patch+json")
    }

    /// Runs kubectl as the administrator, from the controller's namespace.
    /// - Returns: What it printed. That it fails is an error with its words.
    @discardableResult
    func kubectl(_ words: String..., input: String = "") throws -> String { try kubectl(words, input: input) }

    @discardableResult
    func kubectl(_ words: [String], input: String = "") throws -> String {
        var command = Command(
            [kubectl, "--kubeconfig", adminConfig, "--cache-dir", "\(cluster.layout.folder)/kubectl"] + words,
            namespace: RunLayout.namespacePath(cluster.layout.controller))
        command.input = Data(input.utf8)
        command.timeout = .seconds(60)
        let result = try command.run()
        guard result.status == 0 else { throw command.failure(result) }
        return result.text
    }
}
