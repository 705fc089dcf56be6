import CNI
import Glibc
import Handover
import LinuxNetwork
import Logging
import Netlink
import ObjectSource
import Observability
import Redirection
import Synchronization
import TestSupport
import Testing

@testable import NodeAgent

/// Kills a program before a chosen one of the agent's next steps (work on kernel and disk, calls to the keeper).
final class Executioner: Sendable {
    private struct Order {
        var steps: Int
        let execute: @Sendable () -> Void
    }
    private let order = Mutex<Order?>(nil)

    func arm(after steps: Int, _ execute: @escaping @Sendable () -> Void) {
        order.withLock { $0 = Order(steps: steps, execute: execute) }
    }

    /// - Returns: Whether the step it waited for has come.
    func disarm() -> Bool {
        order.withLock { order in
            defer { order = nil }
            return order == nil
        }
    }

    func step() {
        let due = order.withLock { current -> Order? in
            guard let order = current else { return nil }
            guard order.steps == 0 else {
                current?.steps -= 1
                return nil
            }
            current = nil
            return order
        }
        due?.execute()
    }
}

/// The keeper, with each call a step.
private final class CountedKeeper: PodKeeper {
    private let keeper: KeeperClient
    private let executioner: Executioner

    init(_ keeper: KeeperClient, _ executioner: Executioner) {
        self.keeper = keeper
        self.executioner = executioner
    }

    func events() -> AsyncStream<KeeperEvent> { keeper.events() }

    func add(_ pod: KeeperPod, in namespace: SharedNamespace) async throws(AgentError) -> KeeperPodStatus {
        executioner.step()
        return try await keeper.add(pod, in: namespace)
    }

    func remove(uid: String, drain: Bool) async throws(AgentError) {
        executioner.step()
        try await keeper.remove(uid: uid, drain: drain)
    }

    func named() async throws(AgentError) {
        executioner.step()
        try await keeper.named()
    }

    func list() async throws(AgentError) -> [KeeperPodStatus] {
        executioner.step()
        return try await keeper.list()
    }
}

/// An agent in this process with the keeper, and if wanted ztunnel, as they are shipped, supervised.
final class LiveNode: Sendable {
    static let ztunnelUID: UInt32 = 15_000

    let folder: TemporaryFolder
    let source = FakeSource()
    let annotator: FakeAnnotator
    let registry = MetricsRegistry()
    let executioner = Executioner()
    let agent: NodeAgent
    let client: KeeperClient
    let supervisor: Supervisor
    private let programs: [String]
    private let supervision: [Task<Void, any Error>]
    private let service: Task<Void, any Error>

    init(
        ztunnel: Bool = false, backend: any RedirectionBackend = NftablesBackend(),
        configure: (inout NodeAgentConfiguration) -> Void = { _ in }
    ) async throws {
        let quiet = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        let folder = try TemporaryFolder()
        // ztunnel's user comes through here.
        chmod(folder.path, 0o755)
        let run = folder.path + "/run"
        let built = AtomicFile.split(try #require(CommandLine.arguments.first)).folder
        var variables = ["PATH": "/usr/bin:/bin", "SWIFT_BACKTRACE": "enable=no"]
        let keeper = ChildProgram(
            name: NodePrograms.keeperName, executable: built + "/apus-sockets",
            arguments: ["--run-dir", run, "--ztunnel-uid", "\(Self.ztunnelUID)", "--takeover"],
            environment: variables, logFile: folder.path + "/logs/keeper.log", takesOver: true)
        // A mesh of its own, and nobody to sign certificates: it serves pods all the same.
        variables["INPOD_UDS"] = run + "/ztunnel/ztunnel.sock"
        (variables["XDS_ADDRESS"], variables["LOCAL_XDS"]) = ("", "{}")
        variables["CA_ADDRESS"] = "https://127.0.0.1:1"
        (variables["CA_ROOT_CA"], variables["AUTH_TOKEN"]) = (folder.path + "/root.pem", folder.path + "/token")
        variables["NODE_NAME"] = "n1"
        // Metrics and readiness are served on free ports: tests run beside one another.
        for name in ["ADMIN", "STATS", "READINESS"] { variables["APUS_\(name)_ADDRESS"] = "127.0.0.1:0" }
        let proxy = ChildProgram(
            name: NodePrograms.ztunnelName, executable: built + "/apus",
            arguments: ["ztunnel", "--uid", "\(Self.ztunnelUID)"], environment: variables,
            logFile: folder.path + "/logs/ztunnel.log")
        try AtomicFile.write(Array("token".utf8), to: folder.path + "/token", mode: 0o644)
        let supervisor = Supervisor(folder: run, log: quiet)
        let wanted = ztunnel ? [keeper, proxy] : [keeper]
        programs = wanted.map(\.name)
        supervision = wanted.map { program in Task { try await supervisor.keep(program) } }

        let annotator = FakeAnnotator(source, Journal())
        var configuration = NodeAgentConfiguration(nodeName: "n1", runDirectory: run)
        configuration.objectWait = .milliseconds(50)
        configuration.peerUpdateTime = .milliseconds(20)
        configuration.drainPoll = .milliseconds(5)
        configuration.verifyInterval = .seconds(3600)
        configuration.beforeWork = { [executioner] in executioner.step() }
        configure(&configuration)
        client = try KeeperClient(path: run + "/keeper.sock")
        let agent = try NodeAgent(
            configuration, source: source, annotator: annotator, events: annotator, backend: backend,
            keeper: CountedKeeper(client, executioner), metrics: registry, log: quiet)
        self.folder = folder
        self.annotator = annotator
        self.agent = agent
        self.supervisor = supervisor
        service = Task { try await agent.run() }
        try await eventually("the keeper is there", within: .seconds(20)) {
            await agent.answer(CNICall(request: CNIRequest(verb: .status), namespace: nil)).code == 0
        }
        if ztunnel {
            try await eventually("ztunnel is there", within: .seconds(20)) {
                try self.log("keeper").contains("ztunnel has all pods")
            }
        }
    }

    func log(_ name: String) throws -> String {
        String(decoding: try AtomicFile.read("\(folder.path)/logs/\(name).log", limit: 16 << 20) ?? [], as: UTF8.self)
    }

    func pid(of name: String) -> pid_t? { supervisor.pid(of: name) }

    func call(
        _ verb: CNIRequest.Verb, _ container: String, _ pod: FakePod?, name: String = "web", uid: String = "u-1"
    ) async -> CNIReply {
        let request = CNIRequest(
            verb: verb, networkName: "mesh", containerID: container, interfaceName: "eth0",
            netnsPath: pod?.path ?? "", podName: name, podNamespace: "shop", podUID: uid,
            addresses: pod.map { ["\($0.address)/24"] } ?? [])
        return await agent.answer(CNICall(request: request, namespace: pod.map { .success($0.namespace) }))
    }

    /// Captured, with its sockets made, in the keeper's list, and nothing else in it.
    func isWhole(_ pod: FakePod, uid: String = "u-1") async throws -> Bool {
        guard try pod.drift().isEmpty, try ParallelCallTests.listeningPorts(pod) == [15001, 15006, 15008] else {
            return false
        }
        // Away for a moment, as the tests have it.
        guard let kept = try? await client.list() else { return false }
        return kept.map(\.uid) == [uid] && kept.first?.netnsInode == pod.namespace.id.inode
    }

    /// Ends agent and programs.
    func stop() async throws {
        service.cancel()
        try await service.value
        client.close()
        for task in supervision {
            task.cancel()
            try await task.value
        }
        supervisor.end(programs)
    }
}
