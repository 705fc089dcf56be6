import Foundation
import Glibc
import Kubernetes
import LinuxNetwork
import Synchronization
import TestAPIServer
import Testing

@testable import LocalCluster

/// A mesh whose agents follow an API server, which `kubectl` writes to; the test plays the kubelets. With `everything`
/// the controller follows it too and signs by TokenReview, and nothing is read from folders.
struct KubernetesMesh {
    let cluster: LocalCluster
    let server: TestAPIServer
    /// What the API server takes for the time.
    let clock = SkewedClock()
    private let kubectl: String
    private var adminConfig: String { "\(cluster.layout.folder)/admin.kubeconfig" }

    private static let system = "istio-system"
    /// The accounts that the chart gives the agents, and the controller.
    private static let agentAccount = "ztunnel"
    private static let controllerAccount = "apus-controller"

    /// Builds it with the objects of `examples/shop`, runs `body`, takes it down, and sees to it that nothing is left.
    static func run(
        everything: Bool = false, _ body: (KubernetesMesh, Stage) async throws -> Void
    ) async throws {
        let python = try Self.python()
        var configuration = try LocalCluster.Configuration(kind: .test, programs: TestMesh.programs())
        let layout = configuration.layout
        configuration.kubeconfig = "\(layout.folder)/\(agentAccount).kubeconfig"
        if everything { configuration.controllerKubeconfig = "\(layout.folder)/\(controllerAccount).kubeconfig" }
        let mesh = try KubernetesMesh(LocalCluster(configuration), python)
        do {
            try await mesh.up(everything)
            try await body(mesh, try Stage(mesh.cluster))
        } catch {
            var words = mesh.cluster.nodes.map { "node \($0.name):\n  \($0.lastWords())" }.joined(separator: "\n")
            let log = Files.text(mesh.cluster.controllerLog()) ?? ""
            words += "\ncontroller:\n    " + log.split(separator: "\n").suffix(12).joined(separator: "\n    ")
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
        settings.clock = { [clock] in clock.now }
        let namespace = RunLayout.namespacePath(cluster.layout.controller)
        settings.makeSocket = {
            try NetworkNamespace(path: namespace).run { () throws in try Self.listen(host, port) }
        }
        server = try TestAPIServer(settings)
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

    private func up(_ everything: Bool) async throws {
        server.perform("POST", "/api/v1/namespaces", ["metadata": ["name": .string(Self.system)]])
        for account in [Self.agentAccount, Self.controllerAccount] {
            server.perform(
                "POST", "/api/v1/namespaces/\(Self.system)/serviceaccounts", ["metadata": ["name": .string(account)]])
            try Files.replace("\(cluster.layout.folder)/\(account).kubeconfig", with: kubeconfig(account))
        }
        try renewCredentials()
        try cluster.raise(withController: !everything)
        try await server.resume()
        // The programs have the rights that the chart gives them, and no others; DeployTests hold this file against it.
        try kubectl("apply", "-f", TestMesh.repository("deploy/manifests/apus.yaml"))
        for node in cluster.nodes { try kubectl("create", "-f", "-", input: Self.node(node)) }
        if everything { try startControlPlane() }
        // The folder's files are taken in the order of their names, and nothing waits for its namespace.
        try kubectl("apply", "-f", TestMesh.repository("examples/shop/namespace.yaml"))
        try kubectl("apply", "-f", TestMesh.repository("examples/shop"))
        // Who plays the kubelet, and a controller of folders, read the same objects from the run's folder.
        for kind in ["namespace", "serviceaccount", "service", "pod"] { try copy(kind) }
        if !everything { try cluster.waitForController() }
        for node in cluster.nodes { try cluster.waitForNode(node) }
        try startPods()
        let stage = try Stage(cluster)
        try Waiting.untilTrue("the server to answer", within: .seconds(20)) {
            // It is refused until the server listens.
            (try? stage.driver.get(stage.http(), path: "/ready").status) == 200
        }
    }

    private func copy(_ kind: String) throws {
        let words = kind == "namespace" ? [kind, Stage.namespace] : [kind, "-n", Stage.namespace]
        for name in try kubectl(["get"] + words + ["-o", "name"]).split(separator: "\n") {
            let object = try kubectl("get", String(name), "-n", Stage.namespace, "-o", "json")
            try cluster.source.put("\(name.replacing("/", with: "-")).yaml", object)
        }
    }

    /// Starts the pods that do not run yet, and reports them.
    private func startPods() throws {
        let running = Set(cluster.pods.map(\.key))
        try cluster.startPods()
        for pod in cluster.pods where !running.contains(pod.key) { report(pod) }
    }

    /// One more client in the namespace, with an account of its name.
    func startGuest(_ name: String, on node: LocalNode) throws -> LocalPod {
        try kubectl("create", "serviceaccount", name, "-n", Stage.namespace)
        try kubectl(
            "create", "-f", "-",
            input: """
                apiVersion: v1
                kind: Pod
                metadata: {name: \(name), namespace: \(Stage.namespace), labels: {app: guest}}
                spec:
                  serviceAccountName: \(name)
                  nodeName: \(node.name)
                  containers: [{name: client, image: apus, command: [apus, local, pod-client]}]
                """)
        try copy("pod")
        try startPods()
        return try cluster.pod("\(Stage.namespace)/\(name)")
    }

    // MARK: The control plane on the API server

    private func startControlPlane() throws {
        for node in cluster.nodes {
            let path = "/api/v1/namespaces/\(Self.system)/pods"
            let name = Self.nodePod(node)
            server.perform(
                "POST", path,
                [
                    "metadata": ["name": .string(name)],
                    "spec": [
                        "nodeName": .string(node.name), "serviceAccountName": .string(Self.agentAccount),
                        "containers": [["name": "ztunnel", "image": "apus"]],
                    ],
                ])
            server.perform(
                "PATCH", "\(path)/\(name)/status", ["status": ["phase": "Running"]],
                type: "application/merge-patch+json")
        }
        try cluster.startController()
        try Waiting.untilTrue("the mesh's roots", within: .seconds(30)) { try roots() != "" }
        try renewCredentials()
    }

    private static func nodePod(_ node: LocalNode) -> String { "\(agentAccount)-\(node.name)" }

    private func roots() throws -> String {
        let path = "jsonpath={.data.root-cert\\.pem}"
        return try kubectl(
            "get", "configmap", "istio-ca-root-cert", "-n", Self.system, "--ignore-not-found", "-o", path)
    }

    /// As a kubelet keeps them: in files that change.
    private func kubeconfig(_ account: String) -> String {
        """
        {"apiVersion": "v1", "kind": "Config", "current-context": "c",
         "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
         "clusters": [{"name": "c", "cluster": {"server": "\(server.url)", "certificate-authority": "api-ca.crt"}}],
         "users": [{"name": "u", "user": {"tokenFile": "\(account).token"}}]}

        """
    }

    /// Does what kubelets do in time: fresh tokens, and the authorities as they are now.
    func renewCredentials() throws {
        let folder = cluster.layout.folder
        try Files.replace(adminConfig, with: server.kubeconfig())
        try Files.replace("\(folder)/api-ca.crt", with: #require(server.authority))
        for account in [Self.agentAccount, Self.controllerAccount] {
            let token = try #require(server.token(namespace: Self.system, account: account))
            try Files.replace("\(folder)/\(account).token", with: token)
        }
        guard cluster.configuration.controllerKubeconfig != nil, cluster.process("controller") != nil else { return }
        let roots = try roots()
        for node in cluster.nodes {
            let own = "\(node.folder)/ztunnel"
            try Waiting.untilTrue("ztunnel's folder", within: .seconds(20)) { access(own, F_OK) == 0 }
            let token = server.token(
                namespace: Self.system, account: Self.agentAccount, audiences: ["istio-ca"], pod: Self.nodePod(node))
            try Files.replace("\(own)/root-cert.pem", with: roots)
            try Files.replace("\(own)/token", with: #require(token))
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

/// A clock that can be set.
final class SkewedClock: Sendable {
    private let offset = Mutex(0.0)

    var now: Date { Date() + offset.withLock { $0 } }

    /// - Parameter seconds: How far it is ahead of the machine's.
    func set(_ seconds: Double) { offset.withLock { $0 = seconds } }
}
