import Discovery
public import Foundation
import Identity
public import Kubernetes
public import Logging
import ObjectSource
import Observability
import Synchronization

/// The control plane of a cluster: reads from its API server, serves as any other controller does, and writes into it
/// while it leads. Any number of replicas serve.
public final class ClusterController: Sendable {
    private let client: KubernetesClient
    private let settings: ClusterControllerSettings
    private let objects: ClusterObjectSource
    private let keeper: AuthorityKeeper
    private let duties: LeaderDuties
    private let recorder: ClusterEventRecorder
    private let now: @Sendable () -> Date
    private let log: Logger
    private let server = Mutex<ControllerServer?>(nil)
    private let started = ChangeSignal()

    /// Begins to follow the cluster's objects; nothing is served or written before ``run()``.
    ///
    /// - Parameters:
    ///   - client: Its settings say who writes.
    ///   - now: The time that tokens and certificates are held against.
    public convenience init(
        _ client: KubernetesClient, _ settings: ClusterControllerSettings, logger: Logger,
        now: @escaping @Sendable () -> Date = { Date() }
    ) {
        self.init(client, settings, authority: AuthorityKeeper.Settings(), logger: logger, now: now)
    }

    init(
        _ client: KubernetesClient, _ settings: ClusterControllerSettings, authority: AuthorityKeeper.Settings,
        logger: Logger, now: @escaping @Sendable () -> Date
    ) {
        self.client = client
        self.settings = settings
        self.now = now
        log = logger
        objects = ClusterObjectSource(
            client, ClusterControllerSettings.interests.map { .init($0) }, settings: settings.reflection, log: logger)
        keeper = AuthorityKeeper(
            AuthorityStore(
                client: client, namespace: settings.namespace, folder: settings.authorityFolder,
                trustDomain: settings.mesh.trustDomain), settings: authority, now: now, log: logger)
        recorder = ClusterEventRecorder(
            client, component: "apus-controller", instance: settings.identity, log: logger)
        duties = LeaderDuties(client, keeper, recorder, reflection: settings.reflection, log: logger)
    }

    /// Serves until the task is cancelled; takes part in the election of who writes.
    ///
    /// - Throws: ``ControllerError`` when a port cannot be had or a token check cannot be set up.
    public func run() async throws {
        let election = LeaderElection(
            client, namespace: settings.namespace, name: ClusterControllerSettings.lease,
            identity: settings.identity, settings: settings.election, log: log)
        let candidate = Task { [duties] in
            await election.run { await duties.lead { await self.metrics() } }
        }
        do {
            try await serve()
        } catch {
            await end(candidate)
            throw error
        }
        await end(candidate)
    }

    private func end(_ candidate: Task<Void, Never>) async {
        // Lets go of the lease, so that the next need not wait for its end.
        candidate.cancel()
        await candidate.value
        objects.close()
        recorder.close()
    }

    private func serve() async throws {
        let authority: EmbeddedCA
        do {
            authority = try await keeper.waitForAuthority()
        } catch is CancellationError {
            return
        }
        let remotes = RemoteClusters(isListed: !settings.followsOtherClusters)
        defer { remotes.close() }
        let secrets = RemoteSecrets(
            client, namespace: settings.namespace, ownCluster: settings.mesh.clusterID, into: remotes,
            reflection: settings.reflection, log: log)
        var serving = ControllerSettings.Serving(listen: settings.listen, admin: settings.admin)
        serving.mesh = settings.mesh
        let name = "istiod.\(settings.namespace).svc"
        if !ControllerServer.serverNames.contains(name) { serving.serverNames = [name] }
        let server = try ControllerServer(
            serving,
            .init(
                source: objects, remotes: remotes, authority: authority, verifier: try await verifier(),
                nodeAccounts: settings.nodeAccounts, observe: { [duties] in duties.report($0) }), logger: log, now: now)
        self.server.withLock { $0 = server }
        started.notify()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            group.addTask { await self.keeper.run() }
            group.addTask { await self.followAuthority(server) }
            if settings.followsOtherClusters { group.addTask { await secrets.run() } }
            if let used = settings.meshConfig { group.addTask { await self.watchMeshConfig(used) } }
            defer { group.cancelAll() }
            // The server ends with the task, or by an error; the others with the task alone.
            try await group.next()
        }
    }

    private func verifier() async throws(ControllerError) -> any CallerVerifier {
        switch settings.tokenCheck {
        case .review: return TokenReviewer(client, audiences: settings.audiences)
        case .keys(let file, let issuer):
            do {
                return try await ServiceAccountTokenVerifier(
                    jwksFile: file, issuer: issuer, audiences: Set(settings.audiences), now: now())
            } catch {
                throw ControllerError(.authority, "callers' tokens cannot be checked", cause: "\(error)")
            }
        }
    }

    private func followAuthority(_ server: ControllerServer) async {
        var version = keeper.version
        while !Task.isCancelled {
            let known = version
            let isChanged = await keeper.changes.wait(timeout: .seconds(60)) { [keeper] in keeper.version != known }
            guard isChanged else { continue }
            version = keeper.version
            server.authorityChanged()
        }
    }

    /// What the mesh is made by is taken at the start: a change is told, once.
    private func watchMeshConfig(_ used: IstioMeshConfig) async {
        let map = MeshConfigMap(client: client, namespace: settings.namespace, log: log)
        var told: IstioMeshConfig?
        while !Task.isCancelled {
            // Ends early when the task is cancelled, which the loop sees.
            try? await Task.sleep(for: .seconds(60) * Double.random(in: 0.75...1.25))
            // The next look says what this one could not.
            guard let now = try? await map.get(), now != used, now != told else { continue }
            told = now
            log.warning(
                "the mesh configuration has changed; restart the controller to use it",
                metadata: ["configmap": "\(settings.namespace)/\(MeshConfigMap.name)"])
        }
    }

    private func metrics() async -> ControllerMetrics? {
        while !Task.isCancelled {
            if await started.wait(timeout: .seconds(60), until: { self.server.withLock { $0 != nil } }) { break }
        }
        return server.withLock { $0?.metrics }
    }

    /// Why the authority cannot be read; `nil` while it can.
    var problem: String? { keeper.problem }

    /// The server, once there is an authority.
    ///
    /// - Throws: `CancellationError`.
    func waitForServer() async throws -> ControllerServer {
        while true {
            try Task.checkCancellation()
            if let server = server.withLock({ $0 }) { return server }
            _ = await started.wait(timeout: .seconds(1)) { self.server.withLock { $0 != nil } }
        }
    }
}
