import Addressing
import Foundation
import Glibc
import LinuxNetwork
import Synchronization

/// A mesh on one machine: a controller, nodes and pods, each in its network namespace, attached by the real CNI chain.
///
/// All calls block for as long as the programs they run take; every wait has a timeout.
public final class LocalCluster: Sendable {
    public struct Configuration: Sendable {
        public var layout: RunLayout
        public var kind: RunRecord.Kind
        public var programs: Programs
        public var nodes = 2
        /// ztunnel's worker threads on each node.
        public var workers = 1
        /// The agents follow the objects of a cluster by this file instead of the run's folders.
        public var kubeconfig: String?
        /// The controller is that of a cluster, by this file. ztunnels' tokens and roots are the caller's to put into the
        /// nodes' folders then, as kubelets do.
        public var controllerKubeconfig: String?
        /// The agents' `--redirection`; `nil` for their own default.
        public var redirection: String?
        /// The agents' `--redirection-mark`; `nil` for their own default.
        public var redirectionMark: String?
        /// How long one part may take to come up. Generous: machines that run tests are busy.
        public var patience: Duration = .seconds(30)
        /// Where logs go instead of the run's own folder, which is removed with it.
        public var logFolder: String?

        /// A run of its own, from the programs beside this one.
        public init(kind: RunRecord.Kind, programs: Programs? = nil) throws {
            var generator = SystemRandomNumberGenerator()
            layout = .random(using: &generator)
            self.kind = kind
            self.programs = try programs ?? Programs()
        }
    }

    public let configuration: Configuration
    public let nodes: [LocalNode]
    public let source: SourceFolder
    public var layout: RunLayout { configuration.layout }
    private var logs: String { configuration.logFolder ?? layout.logs }

    private struct State {
        var record: RunRecord
        var pods: [String: LocalPod] = [:]
        var processes: [String: ChildProcess] = [:]
    }
    private let state: Mutex<State>

    /// Takes the run's folder; nothing else exists before ``up()``.
    public init(_ configuration: Configuration) throws {
        guard geteuid() == 0 else {
            throw LocalClusterError(.environment, "root is needed to make network namespaces", hint: "use sudo")
        }
        guard let own = ProcessIdentity.own else {
            throw LocalClusterError(.environment, "/proc cannot be read")
        }
        self.configuration = configuration
        let layout = configuration.layout
        nodes = (1...configuration.nodes).map {
            LocalNode(index: $0, layout: layout, logs: configuration.logFolder)
        }
        source = SourceFolder(path: layout.source)
        state = Mutex(State(record: RunRecord(run: layout.run, kind: configuration.kind, owner: own)))
        try Files.makeFolder(RunLayout.root)
        // Not made with its parents: that it is new is what makes the run ours.
        try check("make \(layout.folder)") { mkdir(layout.folder, 0o755) }
        try record { _ in }
        for folder in [layout.source, layout.status, logs] { try Files.makeFolder(folder) }
        try Files.makeFolder(layout.controllerState, mode: 0o700)
    }

    public func node(_ name: String) throws -> LocalNode {
        guard let node = nodes.first(where: { $0.name == name }) else {
            throw LocalClusterError(
                .manifest, "there is no node \(name), only \(nodes.map(\.name).joined(separator: ", "))")
        }
        return node
    }

    // MARK: Up and down

    /// Builds the network, starts the controller and the nodes' agents, and waits until each node has a ztunnel.
    public func up() throws {
        try raise()
        try waitForController()
        for node in nodes { try waitForNode(node) }
    }

    /// The namespaces, what joins them, and the nodes' folders: everything that needs no process of the mesh.
    func buildNetwork() throws {
        try Underlay(layout: layout, nodes: configuration.nodes).build()
        for node in nodes { try node.makeFolders() }
    }

    /// Builds the network and starts the controller and the agents, each as soon as its namespace is there, and waits
    /// for none: they wait for one another where they must.
    ///
    /// - Parameter withController: Otherwise ``startController()`` is the caller's to call.
    func raise(withController: Bool = true) throws {
        let underlay = Underlay(layout: layout, nodes: configuration.nodes)
        try underlay.makeBridge()
        try underlay.join(.controller)
        if withController { try launchController() }
        for node in nodes {
            try underlay.join(.node(node.index))
            try node.makeFolders()
            try launchAgent(node)
        }
        try record { _ in }
    }

    /// Detaches the pods, ends every process and removes what the run made. Doing it again does nothing.
    public func down() throws {
        var problems: [any Error] = []
        for pod in pods { do { try stop(pod) } catch { problems.append(error) } }
        let children = state.withLock { state in
            defer { state.processes = [:] }
            return Array(state.processes.values)
        }
        for child in children { child.signal(SIGTERM) }
        for child in children { child.terminate() }
        do { try RunCleaner(layout).clean() } catch { problems.append(error) }
        if let first = problems.first { throw first }
    }

    /// Leaves everything running when this process ends; `apus demo down` ends it then.
    public func leaveStanding() throws { try record { $0.stays = true } }

    // MARK: Processes

    public func startController() throws {
        try launchController()
        try record { _ in }
        try waitForController()
    }

    private func launchController() throws {
        try launchController("controller", listen: layout.controllerAddress)
    }

    /// Starts a replica of the controller. It is not waited for.
    ///
    /// - Parameters:
    ///   - name: Of the process and its log.
    ///   - listen: Where it serves, in the controller's namespace.
    func launchController(_ name: String, listen: String) throws {
        let objects =
            configuration.controllerKubeconfig.map { ["--kubeconfig", $0] }
            ?? ["--source", layout.source, "--status", layout.status, "--state", layout.controllerState]
        try launch(
            name, [configuration.programs.apus, "controller"] + objects + ["--listen", listen],
            namespace: RunLayout.namespacePath(layout.controller), log: controllerLog(name))
    }

    func controllerLog(_ name: String = "controller") -> String { "\(logs)/\(name).log" }

    func waitForController() throws {
        guard configuration.controllerKubeconfig == nil else {
            return try waitFor("the controller", of: "controller", log: controllerLog(), in: [logs]) {
                Files.text(self.controllerLog())?.contains("controller is listening") == true
            }
        }
        try waitFor(
            "the controller's token socket", of: "controller", log: controllerLog(), in: [layout.controllerState]
        ) { access(self.layout.tokenSocket, F_OK) == 0 }
    }

    /// - Parameter launcher: a command that is to run the agent, such as one that enters another mount namespace first;
    ///   it must become the agent, not its parent.
    /// - Parameter arguments: of the agent, beside those that every node's has.
    public func startAgent(
        _ node: LocalNode, through launcher: [String] = [], arguments: [String] = []
    ) throws {
        try launchAgent(node, through: launcher, arguments: arguments)
        try record { _ in }
    }

    private func launchAgent(
        _ node: LocalNode, through launcher: [String] = [], arguments: [String] = []
    ) throws {
        try launch(
            "agent-\(node.name)",
            launcher + node.agentArguments(configuration)
                + (configuration.redirection.map { ["--redirection", $0] } ?? [])
                + (configuration.redirectionMark.map { ["--redirection-mark", $0] } ?? []) + arguments,
            namespace: node.namespace, log: "\(node.logs)/agent.log")
    }

    /// Waits until the node's agent takes calls of the CNI plugin.
    func waitForAgent(_ node: LocalNode) throws {
        try waitFor(
            "the agent of node \(node.name)", of: "agent-\(node.name)", log: "\(node.logs)/agent.log",
            in: [node.folder]
        ) { access(node.cniSocket, F_OK) == 0 }
        // The file is there a moment before somebody listens, and one that an earlier agent left goes before that.
        try Waiting.untilTrue(
            "the agent of node \(node.name) to listen", within: configuration.patience, every: .milliseconds(1),
            detail: { node.lastWords() }
        ) {
            do throws(SystemError) {
                _ = try SeqpacketSocket.connect(path: node.cniSocket)
                return true
            } catch {
                guard error.code == ECONNREFUSED || error.code == ENOENT else { throw error }
                return false
            }
        }
    }

    /// Waits until the node's agent answers, its keeper listens and its ztunnel is ready.
    public func waitForNode(_ node: LocalNode) throws {
        try waitForAgent(node)
        try waitFor(
            "the sockets of node \(node.name)", of: "agent-\(node.name)", log: "\(node.logs)/agent.log",
            in: [node.folder, "\(node.folder)/ztunnel"]
        ) { access(node.ztunnelSocket, F_OK) == 0 && !node.processes(.ztunnel).isEmpty }
        try Waiting.untilTrue(
            "ztunnel of \(node.name) to be ready", within: configuration.patience,
            detail: { node.lastWords() }
        ) { try HTTPProbe.status(of: "127.0.0.1", port: 15021, path: "/healthz/ready", in: node.namespace) == 200 }
    }

    /// A process of the run that this cluster started.
    public func process(_ name: String) -> ChildProcess? { state.withLock { $0.processes[name] } }

    /// Starts a process and notes it for the record, which the caller writes. Until then a crash leaves it to be found
    /// by the namespace it is in.
    private func launch(_ name: String, _ arguments: [String], namespace: String, log: String) throws {
        let child = try ChildProcess.start(
            arguments, name: name, environment: Launcher.environment(), namespace: namespace, log: log)
        state.withLock { state in
            state.processes[name] = child
            if let identity = child.identity { state.record.processes.append(identity) }
        }
    }

    /// Waits for something that a process does in one of the folders.
    private func waitFor(
        _ what: String, of process: String, log: String, in folders: [String], _ condition: () -> Bool
    ) throws {
        func lastWords() -> String {
            (Files.text(log) ?? "").split(separator: "\n").suffix(12).joined(separator: "\n    ")
        }
        try Waiting.untilChanged(what, in: folders, within: configuration.patience, detail: lastWords) {
            if condition() { return true }
            if let child = self.process(process), let status = child.wait(within: .zero) {
                throw LocalClusterError(
                    .process, "\(process) ended with status \(status) before \(what) was there", hint: lastWords())
            }
            return false
        }
    }

    /// Notes namespaces of others that will be attached, so that a crash leaves nothing in them.
    func record(foreign paths: [String]) throws { try record { $0.foreignNamespaces = paths } }

    private func record(_ change: (inout RunRecord) -> Void) throws {
        let record = state.withLock { state in
            change(&state.record)
            return state.record
        }
        try record.write(layout)
    }

    // MARK: Pods

    public var pods: [LocalPod] { state.withLock { $0.pods.values.sorted { $0.key < $1.key } } }

    public func pod(_ key: String) throws -> LocalPod {
        guard let pod = state.withLock({ $0.pods[key] }) else {
            throw LocalClusterError(.manifest, "there is no pod \(key)")
        }
        return pod
    }

    /// Starts every pod of the source folder that does not run yet.
    public func startPods() throws {
        for manifest in try PodManifest.all(in: layout.source) where state.withLock({ $0.pods[manifest.key] }) == nil {
            try start(manifest)
        }
    }

    /// Does for a pod what scheduler, kubelet and runtime do: gives it a node and an identity, reports it, makes its
    /// namespace, runs the CNI chain, starts its command, and reports its addresses.
    @discardableResult
    public func start(_ manifest: PodManifest) throws -> LocalPod {
        let node =
            try manifest.node.isEmpty
            ? nodes[state.withLock { $0.pods.count } % nodes.count] : node(manifest.node)
        let name = layout.podNamespace(manifest.namespace, manifest.name)
        let uid = manifest.uid.isEmpty ? UUID().uuidString.lowercased() : manifest.uid
        var status = KubeletStatus(
            namespace: manifest.namespace, name: manifest.name, uid: uid, node: node.name, hostAddress: node.address,
            addresses: [], isReady: false)
        try status.write(layout)

        try Underlay.add(name)
        let container = ContainerNetwork.Container(
            id: UUID().uuidString.lowercased().filter { $0 != "-" }, namespace: RunLayout.namespacePath(name),
            podName: manifest.name, podNamespace: manifest.namespace, podUID: uid)
        let addresses = try node.containerNetwork(configuration.programs).add(container).sorted()

        let control = "\(node.podFolder)/\(manifest.namespace).\(manifest.name).sock"
        let log = "\(node.logs)/pod-\(manifest.namespace)-\(manifest.name).log"
        let process = try manifest.command.isEmpty ? nil : startCommand(manifest, container.namespace, control, log)
        let pod = LocalPod(
            manifest: manifest, node: node, container: container, addresses: addresses, process: process,
            controlSocket: control, log: log)
        state.withLock { $0.pods[pod.key] = pod }
        if let identity = process?.identity { try record { $0.processes.append(identity) } }

        status.addresses = addresses
        status.isReady = true
        try status.write(layout)
        return pod
    }

    private func startCommand(
        _ manifest: PodManifest, _ namespace: String, _ control: String, _ log: String
    ) throws -> ChildProcess {
        var arguments = manifest.command
        // In a cluster the image would have it; here it is the build's own.
        arguments[0] = arguments[0] == "apus" ? configuration.programs.apus : try Launcher.find(arguments[0])
        return try ChildProcess.start(
            arguments, name: manifest.key,
            environment: Launcher.environment(
                adding: manifest.environment.merging([PodControl.environmentName: control]) { $1 }),
            namespace: namespace, log: log)
    }

    /// Ends a pod: its command, then the CNI chain in reverse, then its namespace and its status.
    /// - Throws: The first thing that failed; the rest is done all the same.
    public func stop(_ pod: LocalPod) throws {
        state.withLock { _ = $0.pods.removeValue(forKey: pod.key) }
        pod.process?.terminate(within: .seconds(2))
        var problems: [any Error] = []
        func attempt(_ step: () throws -> Void) { do { try step() } catch { problems.append(error) } }
        attempt { try pod.node.containerNetwork(configuration.programs).delete(pod.container) }
        attempt { try KubeletStatus.remove(namespace: pod.manifest.namespace, name: pod.manifest.name, layout) }
        let name = layout.podNamespace(pod.manifest.namespace, pod.manifest.name)
        attempt { try NamedNamespace.remove(name) }
        if let first = problems.first { throw first }
    }

    // MARK: Reported state

    /// Whether the node reports the pod's capture as in force: the annotation that the agent writes.
    public func isReportedEnrolled(_ pod: LocalPod) -> Bool {
        reportedRedirection(pod) == "enabled"
    }

    /// The value of `ambient.istio.io/redirection` in any status file about the pod.
    public func reportedRedirection(_ pod: LocalPod) -> String? {
        reportedRedirection(namespace: pod.manifest.namespace, name: pod.manifest.name)
    }

    func reportedRedirection(namespace: String, name pod: String) -> String? {
        let prefix = "\(namespace).\(pod)."
        for name in Files.names(in: layout.status) where name.hasPrefix(prefix) && name.hasSuffix(".yaml") {
            for line in (Files.text("\(layout.status)/\(name)") ?? "").split(separator: "\n")
            where line.contains("ambient.istio.io/redirection") {
                return line.split(separator: ":").last?.trimmingCharacters(in: [" ", "\"", "'"])
            }
        }
        return nil
    }

    /// Waits until a pod is reported as captured.
    func waitCaptured(namespace: String, name: String, on node: LocalNode) throws {
        try Waiting.untilChanged(
            "\(namespace)/\(name) to be reported as captured", in: [layout.status], within: configuration.patience,
            detail: { node.lastWords() }
        ) { reportedRedirection(namespace: namespace, name: name) == "enabled" }
    }

    /// Waits until every one of the pods is, or is not, reported as enrolled.
    public func waitReported(enrolled: Bool, _ pods: [LocalPod]) throws {
        try Waiting.untilChanged(
            "\(pods.map(\.key).joined(separator: " and ")) to be reported \(enrolled ? "enrolled" : "not enrolled")",
            in: [layout.status], within: configuration.patience,
            detail: {
                pods.map { "\($0.key): \(self.reportedRedirection($0) ?? "no annotation")" }.joined(separator: ", ")
            }
        ) { pods.allSatisfy { isReportedEnrolled($0) == enrolled } }
    }
}
