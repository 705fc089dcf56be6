import Foundation
import LinuxNetwork

/// `apus local attach`: one local node around each of the given namespaces, all in one mesh. The namespaces keep their
/// own network; only the last plugin of the chain is run for them, with a result made from what is in them.
public final class Attachment {
    private let cluster: LocalCluster
    private let pods: [ForeignPod]
    private var attached: [(node: LocalNode, container: ContainerNetwork.Container)] = []

    /// - Parameters:
    ///   - workers: ztunnel's worker threads on each node.
    ///   - redirection: `nftables`, `ebpf` or `auto`, as the agent's option; `nil` for its default.
    ///   - redirectionMark: `sealed` or `istio`, as the agent's option.
    ///   - logFolder: where logs stay after the end; `nil` for the run's own folder, which goes.
    public init(
        _ pods: [ForeignPod], programs: Programs? = nil, workers: Int, redirection: String? = nil,
        redirectionMark: String = "istio", logFolder: String?
    ) throws {
        guard !pods.isEmpty, Set(pods.map { "\($0.namespace)/\($0.name)" }).count == pods.count else {
            throw LocalClusterError(.manifest, "each --netns needs a pod name of its own")
        }
        self.pods = pods
        var configuration = try LocalCluster.Configuration(kind: .attach, programs: programs)
        configuration.nodes = pods.count
        configuration.workers = workers
        configuration.redirection = redirection
        configuration.redirectionMark = redirectionMark
        configuration.logFolder = logFolder
        cluster = try LocalCluster(configuration)
    }

    public var layout: RunLayout { cluster.layout }

    /// Builds the nodes, attaches the namespaces and waits until each is reported as captured.
    ///
    /// None waits for more of its node than the agent, as a runtime would not either. But one comes after the other: who
    /// finds the last one's sockets finds all of them captured.
    public func up() throws {
        try cluster.record(foreign: pods.map(\.path))
        try cluster.source.put("attached.yaml", Self.objects(zip(pods, cluster.nodes).map { ($0, $1.name) }))
        try cluster.raise()
        for (pod, node) in zip(pods, cluster.nodes) { try attach(pod, node) }
        for (pod, node) in zip(pods, cluster.nodes) {
            try cluster.waitCaptured(namespace: pod.namespace, name: pod.name, on: node)
        }
    }

    private func attach(_ pod: ForeignPod, _ node: LocalNode) throws {
        let (result, addresses) = try pod.result()
        let container = ContainerNetwork.Container(
            id: UUID().uuidString.lowercased().filter { $0 != "-" }, namespace: pod.path, podName: pod.name,
            podNamespace: pod.namespace, podUID: UUID().uuidString.lowercased())
        var status = KubeletStatus(
            namespace: pod.namespace, name: pod.name, uid: container.podUID, node: node.name,
            hostAddress: node.address, addresses: [], isReady: false)
        try status.write(layout)
        let chain = try node.containerNetwork(cluster.configuration.programs, onlyPlugin: true)
        try cluster.waitForAgent(node)
        attached.append((node, container))
        try chain.add(container, after: result)
        status.addresses = addresses
        status.isReady = true
        try status.write(layout)
    }

    /// Detaches the namespaces and removes everything that was made.
    public func down() throws {
        var problems: [any Error] = []
        func attempt(_ step: () throws -> Void) { do { try step() } catch { problems.append(error) } }
        for (node, container) in attached.reversed() {
            attempt {
                try node.containerNetwork(cluster.configuration.programs, onlyPlugin: true).delete(container)
            }
        }
        attached = []
        // Who ended us may have ended the agents too and be about to kill what is left: no long good-byes.
        attempt { try RunCleaner(layout).clean(patience: .milliseconds(500)) }
        if let first = problems.first { throw first }
    }

    /// The namespaces' objects: enrolled, each pod with its service account, and one policy that lets them talk.
    static func objects(_ pods: [(pod: ForeignPod, node: String)]) -> String {
        let namespaces = Set(pods.map(\.pod.namespace)).sorted()
        var documents = namespaces.flatMap { namespace in
            [
                """
                apiVersion: v1
                kind: Namespace
                metadata:
                  name: \(namespace)
                  labels:
                    istio.io/dataplane-mode: ambient
                """,
                """
                apiVersion: security.istio.io/v1
                kind: AuthorizationPolicy
                metadata:
                  name: allow-attached
                  namespace: \(namespace)
                spec:
                  action: ALLOW
                  rules:
                    - from:
                        - source:
                            namespaces: [\(namespaces.map { "\"\($0)\"" }.joined(separator: ", "))]
                """,
            ]
        }
        documents += pods.flatMap { pod, node in
            [
                """
                apiVersion: v1
                kind: ServiceAccount
                metadata:
                  name: \(pod.name)
                  namespace: \(pod.namespace)
                """,
                """
                apiVersion: v1
                kind: Pod
                metadata:
                  name: \(pod.name)
                  namespace: \(pod.namespace)
                  labels:
                    app: \(pod.name)
                spec:
                  serviceAccountName: \(pod.name)
                  nodeName: \(node)
                  containers:
                    - name: app
                      image: none
                """,
            ]
        }
        return documents.joined(separator: "\n---\n") + "\n"
    }
}
