import Glibc
import Handover
import LinuxNetwork
import Logging
import Netlink
import TestSupport
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

    @Test("a keeper whose file is replaced is taken over from by the new one, with the same sockets")
    func upgrade() async throws {
        let folder = try TemporaryFolder()
        let (run, program) = (folder.path + "/run", folder.path + "/apus-sockets")
        let built = AtomicFile.split(try #require(CommandLine.arguments.first)).folder + "/apus-sockets"
        let bytes = try #require(try AtomicFile.read(built, limit: 256 << 20))
        try AtomicFile.write(bytes, to: program, mode: 0o755)
        let programs = NodePrograms(
            nodeName: "n1", runDirectory: run, logDirectory: folder.path + "/logs", keeperExecutable: program,
            apusExecutable: "/nonexistent", controller: "https://127.0.0.1:15012", ztunnelUID: 15_000)
        func inodes(_ pod: FakePod) throws -> Set<String> {
            try pod.namespace.value.run {
                let table = try AtomicFile.read("/proc/thread-self/net/tcp6") ?? []
                let lines = String(decoding: table, as: UTF8.self).split(separator: "\n").dropFirst()
                return Set(lines.compactMap { $0.split(separator: " ").dropFirst(9).first.map(String.init) })
            }
        }

        let supervisor = Supervisor(folder: run, log: Self.quiet)
        let supervision = Task { try await supervisor.keep(programs.keeper) }
        try await eventually("the keeper listens") { access(run + "/keeper.sock", F_OK) == 0 }
        let client = try KeeperClient(path: run + "/keeper.sock")
        let pod = try FakePod()
        _ = try await client.add(
            KeeperPod(
                uid: "u-1", name: "web", namespace: "shop", serviceAccount: "web",
                netnsInode: pod.namespace.value.id.inode), in: pod.namespace)
        let before = try inodes(pod)
        #expect(before.count == 3)
        let first = try #require(supervisor.pid(of: NodePrograms.keeperName))
        supervision.cancel()
        try await supervision.value

        try AtomicFile.write(bytes, to: program, mode: 0o755)
        let next = Task { try await supervisor.keep(programs.keeper) }
        try await eventually("the old one has ended") { ProcessIdentity(running: first) == nil }
        try await eventually("the new one has the pod") { (try? await client.list().map(\.uid)) == ["u-1"] }
        #expect(try inodes(pod) == before)
        let second = try #require(supervisor.pid(of: NodePrograms.keeperName))

        // One that is no keeper: the running one goes on.
        let tried = folder.path + "/tried"
        try AtomicFile.write(Array("#!/bin/sh\n: > \(tried)\nexit 1\n".utf8), to: program, mode: 0o755)
        next.cancel()
        try await next.value
        let broken = Task { try await supervisor.keep(programs.keeper) }
        try await eventually("it is tried") { access(tried, F_OK) == 0 }
        try await eventually("the running one goes on") { supervisor.pid(of: NodePrograms.keeperName) == second }
        #expect(try await client.list().map(\.uid) == ["u-1"])
        #expect(try inodes(pod) == before)
        broken.cancel()
        try await broken.value
        client.close()
        supervisor.end([NodePrograms.keeperName])
        #expect(try inodes(pod).isEmpty)
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
