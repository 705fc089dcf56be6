import Addressing
import ArgumentParser
import Foundation
import Glibc
import LinuxNetwork
import Logging
import NodeAgent
import ObjectSource
import Observability
import Redirection

extension RedirectionMode: ExpressibleByArgument {}

/// A node's agent.
struct AgentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent",
        abstract: "The node's agent: decides which pods are in the mesh and makes their capture hold.",
        discussion: """
            Reads Kubernetes objects from a cluster (--in-cluster or --kubeconfig) or from a folder (--source, --status), \
            answers the CNI plugin at cni.sock in the run directory, and tells the keeper at keeper.sock there. With \
            --spawn it also starts apus-sockets and apus ztunnel, which outlive it; a later agent finds and adopts them.
            """)

    @Option(help: "Name of this node, as pods' nodeName has it.")
    var node = ""

    @Option(help: "Directory for sockets and records; made if missing.")
    var runDir = ""

    @OptionGroup(title: "Objects")
    var objects: AgentObjectOptions

    @Option(
        help: """
            The controller's token.sock; ztunnel's token and the mesh's roots are fetched there. Without it somebody else \
            puts them into ztunnel's directory (token and root-cert.pem), as a kubelet does.
            """)
    var tokenSocket: String?

    @Option(help: "Namespaces that are never enrolled, separated by commas.")
    var exemptNamespaces = "kube-system,istio-system"

    @Option(help: "Whether pods' DNS goes through ztunnel, unless their annotation says otherwise: true or false.")
    var dnsCapture = true

    @Option(help: "The cluster's name servers as kubelet has them, separated by commas.")
    var clusterDns = ""

    @Option(help: "The cluster's DNS domain as kubelet has it.")
    var clusterDomain = "cluster.local"

    @Option(
        help: """
            What of the node's own traffic reaches pods past policy: kubelet (kubelet's connections to the ports that \
            pods' probes name), istio (every process of the node, every port) or off.
            """)
    var probeExemption = "kubelet"

    @Option(help: "kubelet's cgroup, as /proc/PID/cgroup has it; looked for unless given.")
    var kubeletCgroup: String?

    @Option(
        help: """
            Whether probes are led to pods with AWS security groups, where the node has such pods: true or false. Istio's \
            AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE.
            """)
    var awsBranchEniProbe = true

    @Option(help: "What captures the pods' traffic: nftables, ebpf, or auto, which tries what the kernel has.")
    var redirection = RedirectionMode.nftables

    @Option(
        help: """
            By what ztunnel's own sockets are known: sealed (their mark and the keeper's seal, where the kernel can tell) or \
            istio (the mark alone, which a container with CAP_NET_RAW can set; for a ztunnel that makes its own sockets).
            """)
    var redirectionMark = "sealed"

    @Option(
        help: """
            Which pods have a second line that drops new connections their capture misses, for the moment between damage \
            and repair: all, or fail-closed (those that are without network while their capture is not proven).
            """)
    var secondLine = "all"

    @Option(help: "Where metrics and readiness are served.")
    var metricsAddress = "0.0.0.0:15014"

    @Option(help: "Longest that connections captured before a pod left the mesh are kept up, in seconds.")
    var drainDeadline = 300

    @Flag(help: "While a pod's capture is not proven it has no network, unless it or its namespace says otherwise.")
    var failClosed = false

    @Option(
        help: """
            Longest that connections open at a pod's enrolment go past the mesh, in seconds; without it until they close. \
            Those of pods that take mutual TLS alone are cut at once.
            """)
    var sparedDeadline: Int?

    @Option(help: "text or json")
    var logFormat = "text"

    @Option(
        help: """
            The node's /proc, mounted into the agent's container. It becomes the agent's own; the node's network and \
            cgroup namespaces are those of process 1 there.
            """)
    var hostProc: String?

    @Flag(help: "While another agent is at work in the run directory wait for its end, ready, and do nothing before.")
    var standby = false

    @Flag(help: "Start and supervise apus-sockets and apus ztunnel.")
    var spawn = false

    @Option(help: "With --spawn: the controller, https://address:port.")
    var controller: String?

    @Option(help: "With --spawn: the user ztunnel runs as.")
    var ztunnelUid: UInt32 = 15000

    @Option(help: "With --spawn: directory for the programs' logs.")
    var logDir: String?

    @Option(help: "With --spawn: ztunnel's worker threads.")
    var workers: Int?

    @OptionGroup(title: "CNI installation")
    var installer: InstallerOptions

    func validate() throws {
        guard !installer.uninstall else { return }
        for (name, value) in [("node", node), ("run-dir", runDir)] {
            guard !value.isEmpty else { throw ValidationError("Missing expected argument '--\(name) <\(name)>'") }
        }
        try objects.check()
        guard Endpoint(metricsAddress) != nil else {
            throw ValidationError("--metrics-address \(metricsAddress): expected an address and port")
        }
        guard LogFormat(rawValue: logFormat) != nil else {
            throw ValidationError("--log-format \(logFormat): expected text or json")
        }
        guard ProbeExemption(rawValue: probeExemption) != nil else {
            throw ValidationError("--probe-exemption \(probeExemption): expected kubelet, istio or off")
        }
        guard ["sealed", "istio"].contains(redirectionMark) else {
            throw ValidationError("--redirection-mark \(redirectionMark): expected sealed or istio")
        }
        guard ["all", "fail-closed"].contains(secondLine) else {
            throw ValidationError("--second-line \(secondLine): expected all or fail-closed")
        }
        guard hostProc?.hasPrefix("/") ?? true else {
            throw ValidationError("--host-proc \(hostProc ?? ""): expected an absolute path")
        }
        guard kubeletCgroup?.hasPrefix("/") ?? true else {
            throw ValidationError(
                "--kubelet-cgroup \(kubeletCgroup ?? ""): expected a path like /system.slice/kubelet.service")
        }
        for server in clusterDns.split(separator: ",") where IPAddress(server) == nil {
            throw ValidationError("--cluster-dns \(server): expected an address")
        }
        guard !spawn || (controller != nil && logDir != nil) else {
            throw ValidationError("--spawn needs --controller and --log-dir")
        }
        guard sparedDeadline.map((0...604_800).contains) ?? true else {
            throw ValidationError("--spared-deadline \(sparedDeadline ?? 0): expected 0 to 604800 seconds")
        }
        guard (1...86_400).contains(drainDeadline) else {
            throw ValidationError("--drain-deadline \(drainDeadline): expected 1 to 86400 seconds")
        }
    }

    func run() async throws {
        let logs = try LogOutput.bootstrap(format: LogFormat(rawValue: logFormat) ?? .text, sink: .standardOutput)
        let logger = Logger(label: "agent")
        raiseDescriptorLimit()
        do {
            if installer.uninstall { try uninstall(logger) } else { try await serve(logger) }
        } catch is CancellationError {
            // The way out that a signal asks for.
        } catch {
            logger.critical("the agent cannot run", metadata: ["error": "\(error)"])
            logs.close()
            throw ExitCode(1)
        }
        logs.close()
    }

    private func serve(_ logger: Logger) async throws {
        // The commonest mistakes are told before anything is started.
        let source = try objects.open(node: node)
        let metrics = MetricsRegistry()
        let readiness = Readiness()
        let started = readiness.pending("start")
        let address = Endpoint(metricsAddress) ?? Endpoint(.anyV4, 15014)
        let endpoint = try await HTTPEndpoint.start(
            on: [(host: address.address.description, port: Int(address.port))],
            routes: HTTPRoute.metrics(metrics) + HTTPRoute.readiness(readiness))
        let token = tokenSocket == nil ? nil : readiness.pending("token")
        let (signals, continuation) = AsyncStream.makeStream(of: CInt.self, bufferingPolicy: .bufferingNewest(4))
        let sources = Signals.deliver([SIGTERM, SIGINT]) { continuation.yield($0) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask {
                for await _ in signals { throw CancellationError() }
            }
            group.addTask { try await work(source, metrics, readiness, token, started, logger) }
            // The first to come back ends the rest: a signal, or an agent that cannot go on.
            _ = try await group.next()
        }
        await endpoint.close()
        await source.close()
        withExtendedLifetime(sources) {}
    }

    /// What needs the run directory for itself, from the moment that it is this agent's turn.
    private func work(
        _ source: AgentObjects, _ metrics: MetricsRegistry, _ readiness: Readiness, _ token: Readiness.Task?,
        _ started: Readiness.Task, _ logger: Logger
    ) async throws {
        try AgentTurn.prepare(runDir)
        if standby {
            // Ready to go on at once where another one ends, and not before it knows the cluster's objects.
            if let cluster = source.cluster, await !cluster.waitUntilSynced() { throw CancellationError() }
            logger.info("waiting for another agent's end, if there is one", metadata: ["directory": "\(runDir)"])
            started.done()
        }
        let turn = try await AgentTurn(in: runDir, wait: standby ? nil : .seconds(5))
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            // Before the agent serves: until it does, no pod starts rather than one outside the mesh.
            try addInstaller(to: &group, metrics, readiness)
            // They come up while the agent does.
            try addPrograms(to: &group, token)
            let agent = try makeAgent(source, try await chooseBackend(logger), turn, metrics, logger)
            group.addTask { try await agent.run() }
            objects.addTasks(to: &group, source, agent, node: node, metrics, readiness, logger)
            started.done()
            _ = try await group.next()
        }
    }

    private func makeAgent(
        _ source: AgentObjects, _ backend: any RedirectionBackend, _ turn: AgentTurn, _ metrics: MetricsRegistry,
        _ logger: Logger
    ) throws -> NodeAgent {
        var settings = NodeAgentConfiguration(nodeName: node, runDirectory: runDir)
        settings.turn = turn
        if hostProc != nil {
            settings.nodeProcess = "/proc/1"
            // The container's own is that of pods which use the cluster's name servers.
            settings.nodeResolverFile = "/proc/1/root/etc/resolv.conf"
        }
        try objects.configure(&settings)
        settings.exemptNamespaces = Set(exemptNamespaces.split(separator: ",").map(String.init))
        settings.drainDeadline = .seconds(drainDeadline)
        settings.capturesDNS = dnsCapture
        settings.failsClosed = failClosed
        settings.trustsMark = redirectionMark == "istio"
        settings.holdsSecondLine = secondLine == "all"
        settings.sparedDeadline = sparedDeadline.map { .seconds($0) }
        settings.probeExemption = ProbeExemption(rawValue: probeExemption) ?? .off
        settings.kubeletCgroup = kubeletCgroup
        settings.servesBranchInterfaces = awsBranchEniProbe
        settings.clusterDNS = clusterDns.split(separator: ",").compactMap { IPAddress($0) }
        settings.clusterDomain = clusterDomain
        if let tokenSocket {
            let notice = try PeerNotice(socketPath: tokenSocket, nodeName: node)
            settings.peersUpdated = { await notice.wait(for: $0) }
        }
        return try NodeAgent(
            settings, source: source.source, annotator: source.annotator, events: source.events, backend: backend,
            metrics: metrics, log: logger)
    }

    /// On a thread of its own: it blocks, and tries things out in a namespace.
    private func chooseBackend(_ logger: Logger) async throws -> any RedirectionBackend {
        let (mode, sealed) = (redirection, redirectionMark != "istio")
        let thread = try EventLoopThread<Void>(name: "choose-backend") { _ in }
        defer { thread.stop() }
        guard
            let choice = await thread.perform({ _ in Result { try RedirectionChoice.make(mode, tellingSeals: sealed) } }
            )
        else {
            throw CancellationError()
        }
        let chosen = try choice.get()
        logger.info("capture is chosen", metadata: ["redirection": "\(chosen.reason)"])
        return chosen.backend
    }

    private func addInstaller(
        to group: inout ThrowingTaskGroup<Void, any Error>, _ metrics: MetricsRegistry, _ readiness: Readiness
    ) throws {
        guard installer.install else { return }
        let installer = try CNIInstaller(
            try self.installer.configuration(
                agentSocket: runDir + "/cni.sock", exemptNamespaces: exemptNamespaces), metrics: metrics)
        let place = readiness.pending("cni")
        group.addTask {
            await installer.run { place.done() }
            try Task.checkCancellation()
        }
    }

    private func uninstall(_ logger: Logger) throws {
        let configuration = try installer.configuration(
            agentSocket: runDir + "/cni.sock", exemptNamespaces: exemptNamespaces)
        let report = try CNIUninstaller(configuration).run()
        for path in report.changed { logger.info("removed, or our part in it", metadata: ["file": "\(path)"]) }
        if let reason = report.pluginKept {
            logger.warning(
                "the plugin's program stays", metadata: ["file": "\(configuration.pluginPath)", "reason": "\(reason)"])
        }
    }

    /// The token's renewal and, with --spawn, the two programs: all at once. ztunnel waits for its token itself.
    private func addPrograms(
        to group: inout ThrowingTaskGroup<Void, any Error>, _ token: Readiness.Task?
    ) throws {
        guard spawn || tokenSocket != nil else { return }
        let own = runDir + "/ztunnel"
        try TokenRenewer.prepare(own, owner: ztunnelUid)
        if let tokenSocket {
            let renewer = try TokenRenewer(socketPath: tokenSocket, nodeName: node, folder: own, owner: ztunnelUid)
            group.addTask {
                await renewer.run { token?.done() }
                try Task.checkCancellation()
            }
        }
        guard spawn, let controller, let logDir else { return }
        let folder = URL(fileURLWithPath: try ownExecutable()).deletingLastPathComponent().path
        let programs = NodePrograms(
            nodeName: node, runDirectory: runDir, logDirectory: logDir,
            keeperExecutable: folder + "/apus-sockets", apusExecutable: folder + "/apus", controller: controller,
            ztunnelUID: ztunnelUid, workers: workers, environment: Self.passedOn)
        let supervisor = Supervisor(folder: runDir)
        try prepareAccessLog(logDir)
        group.addTask { try await supervisor.keep(programs.keeper) }
        group.addTask { try await supervisor.keep(programs.ztunnel) }
    }

    private func ownExecutable() throws -> String {
        try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    }

    /// ztunnel appends to its access log as its own user, in a directory that is not its own.
    private func prepareAccessLog(_ directory: String) throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let path = directory + "/access.log"
        let file = FileDescriptor(
            owning: try check("open \(path)") {
                open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o640)
            })
        let raw = file.raw
        let user = ztunnelUid
        try check("give \(path) to user \(user)") { fchown(raw, user, user) }
    }

    /// Variables that are for the programs as well: where to find libraries, how much to log, ztunnel's own settings.
    private static var passedOn: [String: String] {
        ProcessInfo.processInfo.environment.filter { name, _ in
            ["PATH", "LD_LIBRARY_PATH", "RUST_LOG", "LOG_FORMAT", "SWIFT_BACKTRACE", "TZ"].contains(name)
                || name.hasPrefix("APUS_")
        }
    }
}
