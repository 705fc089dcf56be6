import ArgumentParser
import Foundation
import Glibc
import Kubernetes
import LinuxNetwork
import Logging
import NodeAgent
import ObjectSource
import Observability

/// Where the agent's objects come from: a cluster, or folders.
struct AgentObjectOptions: ParsableArguments {
    @Option(help: "Folder with the objects a user writes.")
    var source = ""

    @Option(help: "Folder with what nodes report: pods' addresses and readiness, and their capture.")
    var status = ""

    @OptionGroup var cluster: ClusterOptions

    @Option(
        help: """
            Who is enrolled, as a YAML list of podSelector and namespaceSelector; the label istio.io/dataplane-mode \
            decides unless given.
            """)
    var enablementSelectors: String?

    @Flag(
        help: "With a cluster: when the agent is ready, take the taint off this node that keeps pods away until then.")
    var removeTaint = false

    @Option(help: "With --remove-taint: the taint's key.")
    var taint = NodeTaint.notReady

    func check() throws {
        try cluster.check()
        if cluster.isGiven {
            guard source.isEmpty, status.isEmpty else {
                throw ValidationError("--source and --status are for folders: leave them out with a cluster")
            }
        } else {
            for (name, value) in [("source", source), ("status", status)] where value.isEmpty {
                throw ValidationError(
                    "Missing expected argument '--\(name) <\(name)>', or --in-cluster or --kubeconfig")
            }
            guard !removeTaint else { throw ValidationError("--remove-taint: means nothing without a cluster") }
        }
        do {
            _ = try selectors()
        } catch {
            throw ValidationError("\(error)")
        }
    }

    private func selectors() throws(ObjectProblem) -> [EnablementSelector]? {
        guard let enablementSelectors else { return nil }
        return try EnablementSelector.read(enablementSelectors, name: "--enablement-selectors")
    }

    func configure(_ settings: inout NodeAgentConfiguration) throws {
        if let selectors = try selectors() { settings.enablementSelectors = selectors }
        guard cluster.isGiven else { return }
        settings.namespacesAreObjects = true
        settings.objectWait = .seconds(5)
    }

    func open(node: String) throws -> AgentObjects {
        guard cluster.isGiven else {
            for folder in [source, status] {
                _ = try LinuxNetwork.check("read the folder \(folder)") { access(folder, R_OK | X_OK) }
            }
            let folders = try FolderObjectSource(source: source, status: status)
            let reporter = try FolderStatusWriter(folder: status, reporter: "agent")
            return AgentObjects(source: folders, annotator: reporter, events: reporter) { folders.close() }
        }
        let client = try cluster.client(manager: "apus-agent")
        let objects = ClusterObjectSource(
            client,
            [
                .init(.pod, ObjectSelection(fields: "spec.nodeName=\(node)")), .init(.namespace),
                .init(.peerAuthentication),
            ])
        let events = ClusterEventRecorder(client, component: "apus-agent", instance: node)
        return AgentObjects(
            source: objects, annotator: ClusterPodAnnotator(client), events: events, cluster: objects, client: client
        ) {
            objects.close()
            events.close()
            await client.close()
        }
    }

    /// What runs beside the agent because of where its objects come from.
    func addTasks(
        to group: inout ThrowingTaskGroup<Void, any Error>, _ objects: AgentObjects, _ agent: NodeAgent, node: String,
        _ metrics: MetricsRegistry, _ readiness: Readiness, _ logger: Logger
    ) {
        guard let source = objects.cluster, let client = objects.client else { return }
        let synced = readiness.pending("objects")
        let untaint = removeTaint ? taint : nil
        group.addTask {
            guard await source.waitUntilSynced() else { throw CancellationError() }
            synced.done()
            if let untaint {
                try await Self.whenReady(readiness, agent)
                await Self.removeTaint(untaint, from: node, client, logger)
            }
            // The first task to end ends the agent.
            while true { try await Task.sleep(for: .seconds(3600)) }
        }
    }

    private static func whenReady(_ readiness: Readiness, _ agent: NodeAgent) async throws {
        while true {
            if readiness.isReady, await agent.isReady { return }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    /// Until it is done: without it no pod would ever start here.
    private static func removeTaint(
        _ key: String, from node: String, _ client: KubernetesClient, _ logger: Logger
    ) async {
        var backoff = Backoff(shortest: .seconds(1), longest: .seconds(60))
        while !Task.isCancelled {
            do throws(KubernetesError) {
                if try await NodeTaint.remove(key, from: node, client) {
                    logger.info("the node takes pods now", metadata: ["node": "\(node)", "taint": "\(key)"])
                }
                return
            } catch {
                logger.warning(
                    "the node's taint cannot be taken off yet",
                    metadata: ["node": "\(node)", "taint": "\(key)", "error": "\(error)"])
                // Ends early with the agent, which the loop sees.
                try? await Task.sleep(for: backoff.next())
            }
        }
    }
}

/// What the agent reads objects from, and where it reports.
struct AgentObjects: Sendable {
    let source: any ObjectSource
    let annotator: any PodAnnotator
    let events: any PodEventRecorder
    var cluster: ClusterObjectSource?
    var client: KubernetesClient?
    private let end: @Sendable () async -> Void

    init(
        source: any ObjectSource, annotator: any PodAnnotator, events: any PodEventRecorder,
        cluster: ClusterObjectSource? = nil, client: KubernetesClient? = nil, end: @escaping @Sendable () async -> Void
    ) {
        self.source = source
        self.annotator = annotator
        self.events = events
        self.cluster = cluster
        self.client = client
        self.end = end
    }

    func close() async { await end() }
}
