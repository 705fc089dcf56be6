import Addressing
import ArgumentParser
import Controller
import Glibc
import LinuxNetwork
import Logging
import ObjectSource
import Observability

/// The control plane.
struct ControllerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "controller",
        abstract: "The control plane: turns objects into mesh resources, serves them and certificates to ztunnels.",
        discussion: """
            Serves delta xDS and Istio's certificate service on one TLS port. In a cluster it reads objects from the API \
            server, keeps the authority in a Secret, and one of the replicas writes conditions, Events and the mesh's roots. \
            With folders it keeps the mesh's root key, the key of node tokens and token.sock, where agents get tokens, in \
            the state directory.
            """)

    @Option(help: "Folder with the objects a user writes.")
    var source = ""

    @Option(help: "Folder with what nodes report.")
    var status = ""

    @Option(help: "With folders: directory for keys and token.sock; made with mode 0700, refused inside the source.")
    var state = ""

    @OptionGroup var cluster: ControllerClusterOptions

    @Option(help: "Where discovery and certificates are served.")
    var listen = "127.0.0.1:15012"

    @Option(help: "Where metrics, readiness and /debug/resources are served; nowhere when not given.")
    var adminAddress: String?

    @Option(help: "The mesh's trust domain.")
    var trustDomain = "cluster.local"

    @Option(help: "Trust domains that stand for the same mesh in policies, separated by commas.")
    var trustDomainAliases: String?

    @Option(
        help: """
            With folders: a file with Istio's mesh configuration (trustDomain, trustDomainAliases, rootNamespace, \
            discoverySelectors, serviceScopeConfigs, serviceEntryVisibility), read at the start. In a cluster it is the \
            ConfigMap istio.
            """)
    var meshConfig: String?

    @Option(
        help: """
            With folders: another cluster of the mesh as NAME=FOLDER, with its objects in FOLDER/source and \
            FOLDER/status; may be given again.
            """)
    var remoteCluster: [String] = []

    @Option(help: "The cluster's name, in the names of workloads; CLUSTER_ID, or Kubernetes, unless given.")
    var clusterId: String?

    @Option(help: "The cluster's DNS domain, in which services have their host names.")
    var clusterDomain = "cluster.local"

    @Flag(help: "A deny rule that asks for HTTP attributes denies all that the rest of it says, not nothing.")
    var strictL7Deny = false

    @Flag(help: "Workloads and services with a waypoint take connections from it alone.")
    var allowWaypointsOnly = false

    @Flag(
        help: """
            Publish pods with Istio's sidecar as speaking its older mTLS. ztunnels refuse such workloads; for other \
            proxies.
            """)
    var publishLegacyMtls = false

    @Option(help: "Configuration labelled istio.io/rev with another revision is not read.")
    var revision = "default"

    @Option(help: "text or json")
    var logFormat = "text"

    func validate() throws {
        guard Endpoint(listen) != nil else {
            throw ValidationError("--listen \(listen): expected an address and port")
        }
        if let adminAddress, Endpoint(adminAddress) == nil {
            throw ValidationError("--admin-address \(adminAddress): expected an address and port")
        }
        guard LogFormat(rawValue: logFormat) != nil else {
            throw ValidationError("--log-format \(logFormat): expected text or json")
        }
        try cluster.check()
        let folders = [("source", source), ("status", status), ("state", state)]
        if usesCluster {
            for (name, value) in folders where !value.isEmpty {
                throw ValidationError("--\(name): is for folders, leave it out with a cluster")
            }
            if meshConfig != nil {
                throw ValidationError("--mesh-config: in a cluster the ConfigMap istio has the mesh configuration")
            }
            if !remoteCluster.isEmpty {
                throw ValidationError("--remote-cluster: is for folders; with a cluster, --multi-cluster reads Secrets")
            }
        } else {
            try cluster.checkUnused()
            _ = try remoteFolders()
            for (name, value) in folders where value.isEmpty {
                throw ValidationError(
                    "Missing expected argument '--\(name) <\(name)>', or --in-cluster or --kubeconfig")
            }
        }
    }

    /// Objects come from a cluster: as asked for, or because this is a pod and nothing else is said.
    private var usesCluster: Bool {
        cluster.cluster.isGiven || source.isEmpty && status.isEmpty && ClusterOptions.isInPod
    }

    func run() async throws {
        let logs = try LogOutput.bootstrap(format: LogFormat(rawValue: logFormat) ?? .text, sink: .standardOutput)
        let logger = Logger(label: "controller")
        raiseDescriptorLimit()
        do {
            try await serve(logger)
        } catch is CancellationError {
            // The way out that a signal asks for.
        } catch {
            logger.critical("the controller cannot run", metadata: ["error": "\(error)"])
            logs.close()
            throw ExitCode(1)
        }
        logs.close()
    }

    private func serve(_ logger: Logger) async throws {
        guard let listen = Endpoint(listen) else { return }
        let (signals, continuation) = AsyncStream.makeStream(of: CInt.self, bufferingPolicy: .bufferingNewest(4))
        let sources = Signals.deliver([SIGTERM, SIGINT]) { continuation.yield($0) }
        let run: @Sendable () async throws -> Void
        if usesCluster { run = try cluster(listen, logger) } else { run = try await folders(listen, logger) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await run() }
            group.addTask {
                for await _ in signals { throw CancellationError() }
            }
            defer { group.cancelAll() }
            _ = try await group.next()
        }
        withExtendedLifetime(sources) {}
    }

    private func folders(
        _ listen: Endpoint, _ logger: Logger
    ) async throws -> @Sendable () async throws -> Void {
        var settings = ControllerSettings(
            source: source, status: status, state: state, listen: listen, admin: adminAddress.flatMap { Endpoint($0) })
        try configure(&settings.serving.mesh)
        if let meshConfig { try settings.serving.mesh.take(IstioMeshConfig(file: meshConfig)) }
        settings.remoteClusters = try remoteFolders()
        let controller = try await ControllerServer(settings, logger: logger)
        return { try await controller.run() }
    }

    private func cluster(
        _ listen: Endpoint, _ logger: Logger
    ) throws -> @Sendable () async throws -> Void {
        var settings = ClusterControllerSettings(
            listen: listen, admin: adminAddress.flatMap { Endpoint($0) }, identity: ControllerClusterOptions.identity)
        try configure(&settings.mesh)
        settings.mesh.rootNamespace = cluster.ownNamespace
        try cluster.configure(&settings)
        let client = try cluster.cluster.client(manager: "apus-controller")
        let ready = settings
        return {
            do {
                var settings = ready
                try await MeshConfigMap(client: client, namespace: settings.namespace, log: logger).apply(to: &settings)
                try await ClusterController(client, settings, logger: logger).run()
            } catch {
                await client.close()
                throw error
            }
            await client.close()
        }
    }

    private func remoteFolders() throws -> [String: String] {
        var folders: [String: String] = [:]
        for text in remoteCluster {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty, !parts[0].contains("/") else {
                throw ValidationError("--remote-cluster \(text): expected NAME=FOLDER")
            }
            guard folders.updateValue(parts[1], forKey: parts[0]) == nil else {
                throw ValidationError("--remote-cluster \(parts[0]): is given twice")
            }
        }
        return folders
    }

    private func configure(_ mesh: inout MeshConfiguration) throws {
        mesh.trustDomain = trustDomain
        var written = IstioMeshConfig()
        written.trustDomainAliases = ControllerClusterOptions.list(trustDomainAliases ?? "")
        try mesh.take(written)
        mesh.strictL7Deny = strictL7Deny
        mesh.allowsWaypointsOnly = allowWaypointsOnly
        mesh.publishesLegacyMTLS = publishLegacyMtls
        mesh.revision = revision
        mesh.domainSuffix = clusterDomain
        if let clusterId = clusterId ?? ControllerClusterOptions.environment("CLUSTER_ID") {
            mesh.clusterID = clusterId
        }
    }
}
