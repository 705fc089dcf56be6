import Glibc
import Handover
import LinuxNetwork
import Logging
import Netlink
import Testing

@testable import NodeAgent

/// The agent with the keeper as it is shipped, which lies beside the tests once everything is built.
@Suite("The agent and the real keeper", .serialized)
struct RealKeeperTests {
    private static let quiet = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

    private static func listeningPorts(_ pod: FakePod) throws -> Set<UInt16> {
        try pod.namespace.value.run {
            var diagnostics = try SocketDiagnostics()
            return Set(try diagnostics.tcpSockets(in: [.listening]).map(\.local.port))
        }
    }

    @Test("sockets and rules come and go together; a keeper that dies is replaced and told everything")
    func together() async throws {
        let folder = try TemporaryFolder()
        let run = folder.path + "/run"
        let tests = try #require(CommandLine.arguments.first)
        let programs = NodePrograms(
            nodeName: "n1", runDirectory: run, logDirectory: folder.path + "/logs",
            keeperExecutable: AtomicFile.split(tests).folder + "/apus-sockets", apusExecutable: "/nonexistent",
            controller: "https://127.0.0.1:15012", ztunnelUID: 15_000)
        let supervisor = Supervisor(folder: run, log: Self.quiet)
        let supervision = Task { try await supervisor.keep(programs.keeper) }

        let journal = Journal()
        let source = FakeSource()
        let annotator = FakeAnnotator(source, journal)
        var configuration = NodeAgentConfiguration(nodeName: "n1", runDirectory: run)
        configuration.peerUpdateTime = .zero
        configuration.drainPoll = .milliseconds(5)
        let agent = try NodeAgent(configuration, source: source, annotator: annotator, log: Self.quiet)
        let service = Task { try await agent.run() }
        func answer(_ verb: CNIRequest.Verb, _ pod: FakePod? = nil) async -> CNIReply {
            let request = CNIRequest(
                verb: verb, networkName: "mesh", containerID: "c1", interfaceName: "eth0", netnsPath: pod?.path ?? "",
                podName: "web", podNamespace: "shop", podUID: "u-1", addresses: [])
            return await agent.answer(CNICall(request: request, namespace: pod.map { .success($0.namespace) }))
        }
        try await eventually("the keeper is there") { await answer(.status).code == 0 }

        source.setNamespace("shop", ambient: true)
        source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        #expect(await answer(.add, pod) == CNIReply())
        #expect(try Self.listeningPorts(pod) == [15001, 15006, 15008])
        #expect(try pod.drift().isEmpty)
        // No ztunnel is there to serve it.
        #expect(annotator["web"] == "pending")
        #expect(await answer(.check, pod) == CNIReply())

        let first = try #require(supervisor.pid(of: NodePrograms.keeperName))
        kill(first, SIGKILL)
        try await eventually("a new keeper has the pod") {
            let next = supervisor.pid(of: NodePrograms.keeperName)
            guard let next, next != first else { return false }
            return await answer(.check, pod).code == 0
        }
        #expect(try Self.listeningPorts(pod) == [15001, 15006, 15008])

        source.setNamespace("shop", ambient: false)
        try await eventually("it has left") { try !pod.hasCapture() }
        #expect(try Self.listeningPorts(pod).isEmpty)
        source.setNamespace("shop", ambient: true)
        try await eventually("it is back") { await answer(.check, pod).code == 0 }
        #expect(await answer(.delete, pod).code == 0)
        #expect(try Self.listeningPorts(pod).isEmpty)
        #expect(try !pod.hasCapture())

        service.cancel()
        try await service.value
        supervision.cancel()
        try await supervision.value
        supervisor.end([NodePrograms.keeperName])
        #expect(supervisor.pid(of: NodePrograms.keeperName) == nil)
    }
}
