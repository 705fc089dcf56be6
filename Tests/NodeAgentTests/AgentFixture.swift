import Addressing
import Glibc
import Handover
import LinuxNetwork
import Logging
import Netlink
import ObjectSource
import Observability
import Redirection
import TestSupport
import Testing

@testable import NodeAgent

/// The means of capture, for what is to hold with both.
enum Means: String, CaseIterable, Sendable {
    case nftables, ebpf

    private static let programs = Result { try EbpfBackend() }
    private static let rules = Result { try NftablesBackend.tellingSeals() }

    func backend() throws -> any RedirectionBackend {
        switch self {
        case .nftables: try Self.rules.get()
        case .ebpf: try Self.programs.get()
        }
    }
}

/// A pod's namespace with an address, as a plugin before ours leaves it.
final class FakePod: Sendable {
    let namespace: SharedNamespace
    let address: String
    /// What it is captured by.
    let means: Means

    /// - Parameter means: With eBPF it has an interface beside lo, which programs are put on.
    init(_ address: String = "10.99.0.7", means: Means = .nftables) throws {
        let namespace = SharedNamespace(try NetworkNamespace.make())
        let parsed = try #require(IPAddress(address))
        try namespace.value.run {
            var routes = try RouteSocket()
            try routes.setUp(1)
            try routes.add(InterfaceAddress(parsed, prefixLength: 32, interface: 1))
            if means == .ebpf { try routes.createBridge("eth0") }
        }
        self.means = means
        self.namespace = namespace
        self.address = address
    }

    /// Good as long as this process holds the namespace.
    var path: String { "/proc/\(getpid())/fd/\(namespace.value.raw)" }

    /// What the kernel holds of ours.
    func hasCapture() throws -> Bool {
        try namespace.value.run {
            var nftables = try NftablesSocket()
            if try nftables.table("apus") != nil { return true }
            var routes = try RouteSocket()
            for link in try routes.links() {
                for direction in [ClassifierFilter.Direction.ingress, .egress]
                where try routes.filters(link.index, direction).count > 0 { return true }
            }
            return false
        }
    }

    func drift(_ phase: RedirectionPhase = .capturing) throws -> [Drift] {
        var plan = RedirectionPlan(families: try RedirectionPlan.families(in: namespace.value))
        guard means == .ebpf else { return try NftablesBackend().verify(plan, phase, in: namespace.value) }
        // As the agent has it.
        (plan.dropsUncaptured, plan.requiresSeal) = (true, true)
        return try means.backend().verify(plan, phase, in: namespace.value)
    }

    /// Takes the redirecting rules out from under the agent.
    func harm() throws {
        try namespace.value.run {
            guard means == .nftables else {
                var routes = try RouteSocket()
                let link = try #require(try routes.link(named: "eth0"))
                let filters = try routes.filters(link.index, .egress).classifiers
                return try routes.delete(#require(filters.first { $0.name == "apus_egress" }))
            }
            var nftables = try NftablesSocket()
            var batch = Nftables.Batch()
            batch.flush(table: "apus", chain: "nat-output")
            try nftables.commit(batch)
        }
    }
}

/// A connection between a pod and somebody outside of it.
final class PodConnection: Sendable {
    let world: NetworkNamespace
    private let descriptors: [CInt]

    /// Gives the pod a link to a namespace of its own, and connects across it.
    init(_ pod: FakePod) throws {
        let world = try NetworkNamespace.make()
        let descriptor = pod.namespace.value.raw
        let (here, there) = (IPAddress(10, 98, 0, 1), IPAddress(10, 98, 0, 2))
        func configure(_ address: IPAddress) throws {
            var routes = try RouteSocket()
            let link = try #require(try routes.link(named: "eth0"))
            try routes.setUp(link.index)
            try routes.add(InterfaceAddress(address, prefixLength: 24, interface: link.index))
        }
        let listener = try world.run { () throws -> FileDescriptor in
            var routes = try RouteSocket()
            try routes.createPair("eth0", peer: "eth0", peerNamespace: descriptor)
            try configure(here)
            let listener = try Sockets.tcp(dualStack: false)
            try Sockets.bind(listener.raw, to: Endpoint(here, 7000), dualStack: false)
            try Sockets.listen(listener.raw, backlog: 4)
            return listener
        }
        let client = try pod.namespace.value.run { () throws -> FileDescriptor in
            try configure(there)
            let client = try Sockets.tcp(dualStack: false)
            _ = try Sockets.connect(client.raw, to: Endpoint(here, 7000), dualStack: false)
            return client
        }
        var entry = pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, 5000) == 1, let accepted = try Sockets.accept(listener.raw) else {
            throw SystemError("accept", code: ETIMEDOUT)
        }
        self.world = world
        descriptors = [client.release(), accepted.takeDescriptor().release()]
    }

    deinit { for descriptor in descriptors { close(descriptor) } }

    func shutDown() { for descriptor in descriptors { shutdown(descriptor, CInt(SHUT_RDWR)) } }

    /// Whether bytes still go across.
    func works() -> Bool {
        guard send(descriptors[0], "x", 1, CInt(MSG_NOSIGNAL)) == 1 else { return false }
        var entry = pollfd(fd: descriptors[1], events: Int16(POLLIN), revents: 0)
        var byte: UInt8 = 0
        return poll(&entry, 1, 1000) == 1 && recv(descriptors[1], &byte, 1, 0) == 1
    }
}

/// An agent with everything around it, in memory but for the kernel.
final class AgentFixture: Sendable {
    let folder: TemporaryFolder
    let journal = Journal()
    let source: FakeSource
    let annotator: FakeAnnotator
    let keeper: FakeKeeper
    let backend: WatchedBackend
    let registry = MetricsRegistry()
    let agent: NodeAgent
    private let task: Task<Void, any Error>

    init(
        folder: TemporaryFolder? = nil, source: FakeSource? = nil, keeperPods: FakeKeeper? = nil,
        keeperAway: Bool = false, life: AgentLife = AgentLife(), node: SharedNamespace? = nil,
        means: Means = .nftables,
        configure: (inout NodeAgentConfiguration) -> Void = { _ in }
    ) async throws {
        let folder = try folder ?? TemporaryFolder()
        let source = source ?? FakeSource()
        self.folder = folder
        self.source = source
        annotator = FakeAnnotator(source, journal)
        keeper = keeperPods ?? FakeKeeper(journal)
        backend = WatchedBackend(journal, try means.backend())
        if keeperAway { keeper.setAway(true) }
        var configuration = NodeAgentConfiguration(nodeName: "n1", runDirectory: folder.path + "/run")
        configuration.objectWait = .milliseconds(50)
        configuration.peerUpdateTime = .milliseconds(20)
        configuration.drainPoll = .milliseconds(5)
        configuration.pendingGrace = .seconds(60)
        configuration.verifyInterval = .seconds(3600)
        configuration.beforeWork = { try life.step() }
        configure(&configuration)
        var log = Logger(label: "agent", factory: { _ in SwiftLogNoOpLogHandler() })
        log.logLevel = .critical
        let (settings, annotator, keeper, backend) = (configuration, annotator, keeper, backend)
        let (registry, quiet) = (registry, log)
        func makeAgent() throws -> NodeAgent {
            try NodeAgent(
                settings, source: source, annotator: MortalAnnotator(annotator, life), events: annotator,
                backend: backend,
                keeper: MortalKeeper(keeper, life), metrics: registry, log: quiet)
        }
        // The agent's threads stay in the namespace they are made in: it is the node's.
        let agent = try node?.value.run(makeAgent) ?? makeAgent()
        self.agent = agent
        task = Task { try await agent.run() }
        let socket = configuration.cniSocket
        try await eventually("the agent listens") { access(socket, F_OK) == 0 }
        guard !keeperAway else { return }
        try await eventually("the keeper is connected") {
            await agent.answer(CNICall(request: CNIRequest(verb: .status), namespace: nil)).code == 0
        }
    }

    deinit { task.cancel() }

    /// Ends the agent as a signal would; all else stays.
    func stop() async throws {
        task.cancel()
        try await task.value
    }

    func call(
        _ verb: CNIRequest.Verb, _ container: String, _ pod: FakePod? = nil, name: String = "web",
        podNamespace: String = "shop", interface: String = "eth0", addresses: [String]? = nil, uid: String = ""
    ) async -> CNIReply {
        let request = CNIRequest(
            verb: verb, networkName: "mesh", containerID: container, interfaceName: interface,
            netnsPath: pod?.path ?? "", podName: name, podNamespace: podNamespace, podUID: uid,
            addresses: addresses ?? (pod.map { ["\($0.address)/24"] } ?? []))
        return await agent.answer(CNICall(request: request, namespace: pod.map { .success($0.namespace) }))
    }

    func pod(_ container: String) async -> AgentPod? {
        await agent.managedPods().first { $0.containerID == container }
    }

    var records: [String] {
        get throws {
            guard let directory = opendir(folder.path + "/run/pods") else { throw SystemError("opendir") }
            defer { closedir(directory) }
            var names: [String] = []
            while let entry = readdir(directory) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if !name.hasPrefix(".") { names.append(name) }
            }
            return names.sorted()
        }
    }
}
