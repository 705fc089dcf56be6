import Addressing
import Foundation
import Glibc
import LinuxNetwork
import Testing

@testable import LocalCluster

/// A local cluster whose first node's pods are made by containerd, as a kubelet would ask for them.
struct RuntimeCluster: Sendable {
    let cluster: LocalCluster
    let runtime: ContainerRuntime
    let client: RuntimeClient
    /// The node of the runtime.
    var node: LocalNode { cluster.nodes[0] }
    /// The other node, whose pods the local cluster makes itself.
    var otherNode: LocalNode { cluster.nodes[1] }

    /// In the mesh.
    static let meshed = "shop"
    /// Never enrolled, by the plugin's own list.
    static let exempt = "kube-system"

    /// Builds it, runs `body`, takes it down whatever happens, and looks whether anything is left on this machine.
    /// - Parameter mesh: whether controller and agents run; without them only pods of exempt namespaces can start.
    /// - Parameter agentInstalls: whether the plugin is for the agent to put in place.
    static func run(
        mesh: Bool, agentInstalls: Bool = false, _ body: (RuntimeCluster) async throws -> Void
    ) async throws {
        let cluster = try LocalCluster(.init(kind: .test, programs: Programs()))
        var runtime: ContainerRuntime?
        do {
            try cluster.source.put("namespaces.yaml", namespaces)
            try cluster.buildNetwork()
            let started = try ContainerRuntime(
                on: cluster.nodes[0], programs: cluster.configuration.programs, agentInstalls: agentInstalls)
            runtime = started
            if mesh {
                try cluster.startController()
                // Where the sandboxes' network namespaces have the names that the runtime gives them.
                try cluster.startAgent(
                    cluster.nodes[0], through: started.neighbour(), arguments: started.agentArguments)
                try cluster.startAgent(cluster.nodes[1])
                for node in cluster.nodes { try cluster.waitForNode(node) }
            }
            try await body(RuntimeCluster(cluster: cluster, runtime: started, client: RuntimeClient(started)))
        } catch {
            Issue.record("\(error)\n  \(cluster.nodes[0].lastWords(lines: 30))")
        }
        runtime?.stop()
        do { try cluster.down() } catch { Issue.record("\(error)") }
        expectNothingIsLeft(of: cluster.layout)
    }

    private static let namespaces = """
        apiVersion: v1
        kind: Namespace
        metadata:
          name: \(meshed)
          labels:
            istio.io/dataplane-mode: ambient
        ---
        apiVersion: v1
        kind: Namespace
        metadata:
          name: \(exempt)
        ---
        apiVersion: v1
        kind: ServiceAccount
        metadata:
          name: default
          namespace: \(meshed)

        """

    private static func expectNothingIsLeft(of layout: RunLayout) {
        #expect(layout.existingNamespaces() == [])
        #expect(!FileManager.default.fileExists(atPath: layout.folder))
        #expect(Cgroups.of(layout.run) == [], "cgroups, and with them processes of containers")
        #expect(Files.text("/proc/self/mountinfo")?.contains(layout.folder) == false)
        let processes = Files.names(in: "/proc").compactMap { pid in
            Int32(pid) == nil ? nil : Files.text("/proc/\(pid)/cmdline")
        }
        #expect(processes.filter { $0.contains(layout.folder) } == [])
    }

    // MARK: The kubelet's part

    /// A pod as the runtime made it.
    struct Running: Sendable {
        let pod: RuntimePod
        let sandbox: String
        /// `nil` for a pod whose sandbox is all of it.
        let container: String?
        let addresses: [IPAddress]
        /// Path of its network namespace, as it can be seen from here.
        let namespace: String
    }

    /// Puts the pods into the source folder, as if a user had made them.
    func create(_ pods: [RuntimePod], file: String) throws {
        try cluster.source.put(file, pods.map { $0.yaml(node: node.name) }.joined(separator: "---\n"))
    }

    /// Starts a pod: its sandbox, a container in it at once, and only then, as a kubelet is late too, reports it.
    /// - Parameter arguments: those of the test's program; without them no container is made.
    func start(_ pod: RuntimePod, _ arguments: [String]? = nil) async throws -> Running {
        var status = KubeletStatus(
            namespace: pod.namespace, name: pod.name, uid: pod.uid, node: node.name, hostAddress: node.address,
            addresses: [], isReady: false)
        try status.write(cluster.layout)
        let sandbox = try await client.runSandbox(pod)
        var container: String?
        if let arguments { container = try await client.start(arguments, in: sandbox, of: pod) }
        let network = try await client.network(of: sandbox)
        status.addresses = network.addresses
        status.isReady = true
        try status.write(cluster.layout)
        return Running(
            pod: pod, sandbox: sandbox, container: container, addresses: network.addresses,
            namespace: runtime.visible(network.namespace))
    }

    func remove(_ pod: Running) async throws {
        try await client.remove(sandbox: pod.sandbox)
        try KubeletStatus.remove(namespace: pod.pod.namespace, name: pod.pod.name, cluster.layout)
    }

    /// Does something for every one of many, some at the same time.
    func forEach<Input: Sendable, Output: Sendable>(
        _ inputs: [Input], atOnce: Int = 6, _ body: @escaping @Sendable (Input) async throws -> Output
    ) async throws -> [Output] {
        try await withThrowingTaskGroup(of: (Int, Output).self) { group in
            var outputs: [Int: Output] = [:]
            for (index, input) in inputs.enumerated() {
                if index >= atOnce, let (done, output) = try await group.next() { outputs[done] = output }
                group.addTask { (index, try await body(input)) }
            }
            for try await (done, output) in group { outputs[done] = output }
            return inputs.indices.compactMap { outputs[$0] }
        }
    }

    // MARK: The mesh

    /// Ends the runtime node's agent, and it alone.
    func endAgent() throws {
        let agent = try #require(cluster.process("agent-\(node.name)"))
        agent.signal(SIGTERM)
        #expect(agent.wait(within: .seconds(20)) == 0)
        #expect(node.processes(.agent) == [])
        #expect(node.processes(.sockets).count == 1)
        #expect(node.processes(.ztunnel).count == 1)
    }

    /// Starts an agent on the runtime's node, and waits until it answers.
    func startAgent() throws {
        try cluster.startAgent(node, through: runtime.neighbour(), arguments: runtime.agentArguments)
        try cluster.waitForNode(node)
    }

    /// The object of a pod that the local cluster makes.
    func yaml(of pod: PodManifest) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata:
          name: \(pod.name)
          namespace: \(pod.namespace)
          uid: \(pod.uid)
        spec:
          serviceAccountName: default
          nodeName: \(pod.node)
          containers:
            - name: none
              image: none

        """
    }

    /// Waits until a pod is reported as captured and the runtime node's ztunnel has learnt it.
    func waitUntilInMesh(namespace: String, name: String) throws {
        let patience = cluster.configuration.patience
        try Waiting.untilTrue(
            "\(namespace)/\(name) to be reported as captured", within: patience, detail: { node.lastWords() }
        ) { cluster.reportedRedirection(namespace: namespace, name: name) == "enabled" }
        try Waiting.untilTrue(
            "ztunnel of \(node.name) to know that \(namespace)/\(name) takes tunnels", within: patience,
            every: .milliseconds(50), detail: { node.lastWords() }
        ) {
            guard
                let answer = try HTTPProbe.get("127.0.0.1", port: 15000, path: "/config_dump", in: node.namespace),
                let dump = try? JSONDecoder().decode(Dump.self, from: Data(answer.body.utf8))
            else { return false }
            return dump.workloads.contains {
                $0.namespace == namespace && $0.name == name && $0.protocol == "HBONE"
            }
        }
    }

    private struct Dump: Decodable {
        struct Workload: Decodable {
            let name: String
            let namespace: String
            let `protocol`: String
        }
        let workloads: [Workload]
    }
}
