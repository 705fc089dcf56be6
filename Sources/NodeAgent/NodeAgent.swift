import Addressing
import Glibc
import Handover
import LinuxNetwork
import Logging
import ObjectSource
import Observability
import Redirection
import ServiceLifecycle

/// A node's agent: decides which pods are in the mesh, makes their capture hold, tells the keeper, answers the CNI
/// plugin, and reports each pod's state. It is no part of the data path: when it ends, all stays as it is, and the
/// next one takes up where it was.
public actor NodeAgent: ServiceLifecycle.Service {
    let configuration: NodeAgentConfiguration
    let source: any ObjectSource
    let annotator: any PodAnnotator
    let events: (any PodEventRecorder)?
    let backend: any RedirectionBackend
    /// Of every plan of this agent.
    let requiresSeal: Bool
    let keeper: any PodKeeper
    let metrics: AgentMetrics
    let log: Logger
    let rules: EnrolmentRules
    let store: PodRecordStore
    let pool: BlockingPool
    /// For what goes through all of the machine's processes: a pod that is enrolled does not wait for that.
    let lookups: BlockingPool
    let processes = NamespaceProcesses()
    /// Namespaces that are nobody's pod: the agent's own, and the one of the machine's first process.
    let hostNamespaces: Set<NamespaceID>
    /// Where the node's own rules are; `nil`: where the agent is.
    let nodeNetwork: SharedNamespace?

    var objects: ObjectSnapshot {
        didSet {
            guard objects.peerAuthentications != oldValue.peerAuthentications else { return }
            authenticationModes = PeerAuthenticationModes(objects)
        }
    }
    /// Those that every pod was last held against.
    private var judged: ObjectSnapshot
    private(set) var authenticationModes: PeerAuthenticationModes
    /// By container ID.
    var pods: [String: ManagedPod] = [:]
    /// Pods that are over and that the keeper has not been told about, by container ID.
    var graves: [String: PodRecord] = [:]
    /// How many pods have left the agent's care.
    var burials = 0
    /// Namespaces of pods that are over, from which capture could not be taken yet.
    var leftovers: [NamespaceID: Task<Void, Never>] = [:]
    /// Which container a namespace belongs to.
    var claims: [NamespaceID: String] = [:]
    /// Whose namespace has which number in the kernel's messages.
    var namespaceNumbers: [Int32: String] = [:]
    private(set) var driftWatch: DriftWatch?
    /// Something has changed in the node's own namespace.
    var hostSuspicion: Task<Void, Never>?
    var isKeeperConnected = false
    /// The keeper is being told of all pods.
    var naming: Task<Void, Never>?
    /// The keeper's list has been read since the connection was made: a pod without a state is one it does not have.
    var isKeeperListed = false
    var hostProbes = HostProbes()
    /// Whose probes the node's rules for branch interfaces were last made for; `nil` when that is not known.
    var branchAddresses: Set<IPAddress>?
    private var vainRequests: Set<String> = []
    private var turns: [String: [CheckedContinuation<Void, Never>]] = [:]

    /// - Parameter keeper: The way to the keeper; the one at the run directory's keeper.sock unless given.
    /// - Throws: When threads or metrics cannot be made.
    public init(
        _ configuration: NodeAgentConfiguration, source: any ObjectSource, annotator: any PodAnnotator,
        events: (any PodEventRecorder)? = nil, backend: any RedirectionBackend = NftablesBackend(),
        keeper: (any PodKeeper)? = nil,
        metrics: MetricsRegistry = MetricsRegistry(), log: Logger = Logger(label: "agent")
    ) throws {
        self.configuration = configuration
        self.source = source
        self.annotator = annotator
        self.events = events
        self.backend = backend
        let sealProblem = configuration.trustsMark ? nil : backend.sealProblem
        requiresSeal = !configuration.trustsMark && sealProblem == nil
        if let sealProblem {
            log.warning(
                "whoever can set ztunnel's mark gets past capture", metadata: ["reason": "\(sealProblem)"])
        }
        self.metrics = try AgentMetrics(metrics)
        self.log = log
        rules = EnrolmentRules(
            exemptNamespaces: configuration.exemptNamespaces, selectors: configuration.enablementSelectors)
        store = PodRecordStore(folder: configuration.recordsFolder)
        pool = try BlockingPool(threads: 4, before: configuration.beforeWork)
        lookups = try BlockingPool(threads: 1, name: "agent-look", before: configuration.beforeWork)
        let objects = source.snapshot()
        self.objects = objects
        judged = objects
        authenticationModes = PeerAuthenticationModes(objects)
        var hosts: Set<NamespaceID> = [try NetworkNamespace.current().id]
        // In a container without the machine's process list this cannot be read; the agent's own is known in any case.
        if let first = try? NetworkNamespace(path: "/proc/1/ns/net") { hosts.insert(first.id) }
        let node = try configuration.nodeProcess.map {
            SharedNamespace(try NetworkNamespace(path: $0 + "/ns/net"))
        }
        if let node { hosts.insert(node.value.id) }
        nodeNetwork = node
        hostNamespaces = hosts
        self.keeper = try keeper ?? KeeperClient(path: configuration.keeperSocket)
    }

    /// Serves until the task is cancelled or the process is told to end. Pods stay as they are then.
    public func run() async throws {
        try await cancelWhenGracefulShutdown { try await self.serve() }
    }

    private func serve() async throws {
        try await prepareRunDirectory()
        var turn = configuration.turn
        if turn == nil { turn = try await AgentTurn(in: configuration.runDirectory, wait: configuration.lockWait) }
        startDriftWatch()
        try await recover()
        let server = try CNIServer(path: configuration.cniSocket, log: log) { [weak self] call in
            await self?.answer(call) ?? AgentError(.tryAgain, "the agent is ending").reply
        }
        log.info(
            "the agent is ready",
            metadata: [
                "node": "\(configuration.nodeName)", "pods": "\(pods.count)", "socket": "\(configuration.cniSocket)",
            ])
        await withTaskGroup(of: Void.self) { group in
            group.addTask { for await event in self.keeper.events() { await self.keeperSaid(event) } }
            group.addTask { for await snapshot in self.source.snapshots() { await self.objectsChanged(snapshot) } }
            group.addTask { await self.verifyForever() }
            group.addTask { await self.followChanges() }
            group.addTask { await self.keepHostRules() }
            group.addTask { await self.takeInWhatSlippedThrough() }
            group.addTask { await self.forgetWhatWasTakenIn() }
            group.addTask { await self.watchSource() }
            await group.waitForAll()
        }
        server.close()
        for pod in pods.values {
            pod.drain?.cancel()
            pod.reconciliation?.cancel()
            pod.resolverWatch?.cancel()
            pod.suspicion?.cancel()
            pod.sparedWatch?.cancel()
            pod.reportAgain?.cancel()
            pod.reportDue?.cancel()
        }
        for leftover in leftovers.values { leftover.cancel() }
        hostSuspicion?.cancel()
        naming?.cancel()
        driftWatch?.stop()
        (keeper as? KeeperClient)?.close()
        pool.stop()
        lookups.stop()
        pods = [:]
        claims = [:]
        log.info("the agent has ended; pods stay as they are")
        withExtendedLifetime(turn) {}
    }

    private func startDriftWatch() {
        do {
            driftWatch = try DriftWatch(in: nodeNetwork)
        } catch {
            log.warning(
                "changes in pods' namespaces are not heard of; they are looked at now and then",
                metadata: ["error": "\(error)"])
        }
    }

    private func prepareRunDirectory() async throws {
        let folder = configuration.runDirectory
        let store = store
        try await pool.run {
            try AtomicFile.makeFolder(folder, mode: 0o711)
            try store.prepare()
        }
    }

    // MARK: Objects

    func objectsChanged(_ snapshot: ObjectSnapshot) {
        objects = snapshot
        let concerned = podsConcerned(by: snapshot)
        judged = snapshot
        if concerned?.isEmpty != true {
            for pod in pods.values where concerned?.contains(pod.name) != false && isOutOfPlace(pod) {
                scheduleReconciliation(pod)
            }
        }
        let vain = Set(rules.vainRequests(in: snapshot))
        for request in vain.subtracting(vainRequests).sorted() {
            log.warning(
                "asks to be in the mesh, in a namespace that is never enrolled",
                metadata: ["object": "\(request)", "label": "\(EnrolmentRules.modeLabel)"])
        }
        vainRequests = vain
    }

    /// The pods whose place another snapshot than the last may have changed; `nil` for all.
    private func podsConcerned(by snapshot: ObjectSnapshot) -> Set<ObjectName>? {
        guard snapshot.namespaces == judged.namespaces, snapshot.peerAuthentications == judged.peerAuthentications
        else { return nil }
        return snapshot.pods.difference(from: judged.pods)
    }

    /// The pod's object as it is now; `nil` when there is none, or one of a later pod with the same name.
    func object(of record: PodRecord) -> Pod? {
        let name = ObjectName(namespace: record.podNamespace, name: record.podName)
        guard let pod = objects.pods[name], Self.mayBe(pod, uid: record.objectUID), isDecidable(pod, in: objects)
        else { return nil }
        return pod
    }

    /// The labels of the pod's namespace are known, or there are none.
    func isDecidable(_ pod: Pod, in snapshot: ObjectSnapshot) -> Bool {
        !configuration.namespacesAreObjects || snapshot.namespaces[pod.metadata.namespace] != nil
    }

    static func mayBe(_ pod: Pod, uid: String) -> Bool {
        uid.isEmpty || pod.metadata.uid.isEmpty || pod.metadata.uid == uid
    }

    func decide(_ pod: Pod) -> EnrolmentDecision {
        rules.decide(pod, namespaceLabels: objects.namespaces[pod.metadata.namespace]?.metadata.labels ?? [:])
    }

    /// What to do with a pod in the agent's care. `nil` while nothing is known of it: then all stays as it is.
    func decision(for pod: ManagedPod) -> EnrolmentDecision? { object(of: pod.record).map(decide) }

    // MARK: One thing at a time

    /// Runs `body` when nobody else is at work under this key. First come, first served.
    func exclusively<Value>(_ key: String, _ body: () async throws -> Value) async rethrows -> Value {
        if turns[key] == nil {
            turns[key] = []
        } else {
            await withCheckedContinuation { turns[key]?.append($0) }
        }
        defer {
            if turns[key]?.isEmpty == false {
                turns[key]?.removeFirst().resume()
            } else {
                turns[key] = nil
            }
        }
        return try await body()
    }

    // MARK: What others may know

    /// Pods can be attached: the keeper is there, and so are the objects.
    public var isReady: Bool { isKeeperConnected && source.health.isSynced }

    /// All pods in the agent's care, by name.
    public func managedPods() -> [AgentPod] {
        pods.values.map { pod in
            let phase: AgentPod.Phase =
                switch pod.record.phase {
                case .attached, .gone: .attached
                case .capturing: .capturing
                case .leaving: .leaving
                }
            return AgentPod(
                containerID: pod.record.containerID, name: pod.name, uid: pod.record.uid, phase: phase,
                isProven: pod.isProven, keeperState: pod.keeperState, reported: pod.reported?.annotation,
                problem: pod.problem, isBlocked: pod.isBlocked == true)
        }.sorted { ($0.name, $0.containerID) < ($1.name, $1.containerID) }
    }

    func updateGauges() {
        var (attached, pending, degraded, enabled, leaving, spared, blocked) = (0, 0, 0, 0, 0, 0, 0)
        for pod in pods.values {
            switch pod.record.phase {
            case .attached, .gone: attached += 1
            case .leaving: leaving += 1
            case .capturing:
                switch pod.reported?.state {
                case .enabled: enabled += 1
                case .degraded: degraded += 1
                case .pending, .absent, nil: pending += 1
                }
            }
            spared += pod.spared.count
            if pod.isBlocked == true { blocked += 1 }
        }
        let counts = [
            ("attached", attached), ("pending", pending), ("degraded", degraded), ("enabled", enabled),
            ("leaving", leaving),
        ]
        for (state, count) in counts { metrics.pods.with([state]).set(Int64(count)) }
        metrics.spared.with([]).set(Int64(spared))
        metrics.blocked.with([]).set(Int64(blocked))
    }
}
