import Glibc
import LinuxNetwork
import Logging
import TestSupport
import Testing

@testable import NodeAgent

@Suite("Programs that outlive the agent", .serialized)
struct SupervisorTests {
    private static let quiet = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

    @Test(
        "start times are found behind any name",
        arguments: [
            "42 (sleep) S 1 42 42 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 123456 5000 100",
            "42 (a) b (c) ) S 1 42 42 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 123456 5000 100",
        ])
    func parse(line: String) {
        let found = ProcessIdentity.parse(line)
        #expect(found?.startTime == 123_456)
        #expect(found?.state == "S")
    }

    @Test("what is no such line or file is none", arguments: ["", "42 sleep S 1", "42 (sleep) S 1 2 3", ")"])
    func noLine(line: String) {
        #expect(ProcessIdentity.parse(line) == nil)
        #expect(ProcessIdentity(text: line) == nil)
    }

    @Test("a pid file is read back; pid 1 and less are nobody's child")
    func pidFile() {
        let identity = ProcessIdentity(pid: 77, startTime: 99)
        #expect(ProcessIdentity(text: identity.text) == identity)
        for text in ["1 5", "0 5", "-3 5", "77", "77 x", "77 5 6"] { #expect(ProcessIdentity(text: text) == nil) }
    }

    @Test("a program is started, restarted, left running, adopted, and ended")
    func life() async throws {
        let folder = try TemporaryFolder()
        let program = ChildProgram(
            name: "sleeper", executable: "/bin/sh", arguments: ["-c", "echo $WORD; exec sleep 1000"],
            environment: ["WORD": "hello", "PATH": "/usr/bin:/bin"], logFile: folder.path + "/logs/sleeper.log")
        let supervisor = Supervisor(folder: folder.path + "/run", log: Self.quiet)
        let task = Task { try await supervisor.keep(program) }
        try await eventually("it runs") { supervisor.pid(of: "sleeper") != nil }
        let first = try #require(supervisor.pid(of: "sleeper"))
        func log() throws -> String? {
            try AtomicFile.read(folder.path + "/logs/sleeper.log").map { String(decoding: $0, as: UTF8.self) }
        }
        try await eventually("its output is in the log") { try log() == "hello\n" }
        #expect(getsid(first) == first)

        kill(first, SIGKILL)
        try await eventually("it runs again") { supervisor.pid(of: "sleeper").map { $0 != first } ?? false }
        let second = try #require(supervisor.pid(of: "sleeper"))
        try await eventually("it has said so") { try log() == "hello\nhello\n" }
        task.cancel()
        try await task.value

        let other = Supervisor(folder: folder.path + "/run", log: Self.quiet)
        let adopted = Task { try await other.keep(program) }
        #expect(other.pid(of: "sleeper") == second)
        // What is adopted is watched as well.
        kill(second, SIGKILL)
        try await eventually("it runs again") { other.pid(of: "sleeper").map { $0 != second } ?? false }
        let third = try #require(other.pid(of: "sleeper"))
        try await eventually("it has said so") { try log() == "hello\nhello\nhello\n" }
        adopted.cancel()
        try await adopted.value
        #expect(other.pid(of: "sleeper") == third)
        other.end(["sleeper", "unknown"])
        #expect(other.pid(of: "sleeper") == nil)
        #expect(ProcessIdentity(running: third) == nil)
    }

    @Test("a pid file of another process is not believed")
    func stalePidFile() throws {
        let folder = try TemporaryFolder()
        let supervisor = Supervisor(folder: folder.path, log: Self.quiet)
        let own = try #require(ProcessIdentity(running: getpid()))
        let stale = ProcessIdentity(pid: own.pid, startTime: own.startTime + 1)
        try AtomicFile.write(Array(stale.text.utf8), to: folder.path + "/x.pid", mode: 0o644)
        #expect(supervisor.pid(of: "x") == nil)
    }

    @Test("what cannot be started is an error that names it")
    func missing() {
        let program = ChildProgram(name: "nothing", executable: "/nonexistent/program")
        #expect {
            _ = try program.start()
        } throws: { error in
            "\(error)".contains("/nonexistent/program")
        }
    }

    @Test("the command lines of the node's programs")
    func commandLines() {
        let programs = NodePrograms(
            nodeName: "n1", runDirectory: "/run/apus/r/n1", logDirectory: "/var/log/n1",
            keeperExecutable: "/opt/apus-sockets", apusExecutable: "/opt/apus", controller: "https://10.0.0.1:15012",
            ztunnelUID: 15_000, workers: 2, environment: ["PATH": "/bin"])
        #expect(programs.keeper.arguments == ["--run-dir", "/run/apus/r/n1", "--ztunnel-uid", "15000", "--takeover"])
        let ztunnel = programs.ztunnel
        #expect(ztunnel.arguments == ["ztunnel", "--access-log", "/var/log/n1/access.log", "--uid", "15000"])
        #expect(ztunnel.environment["INPOD_UDS"] == "/run/apus/r/n1/ztunnel/ztunnel.sock")
        #expect(ztunnel.environment["AUTH_TOKEN"] == "/run/apus/r/n1/ztunnel/token")
        #expect(ztunnel.environment["CA_ROOT_CA"] == "/run/apus/r/n1/ztunnel/root-cert.pem")
        #expect(ztunnel.environment["XDS_ADDRESS"] == "https://10.0.0.1:15012")
        #expect(ztunnel.environment["ZTUNNEL_WORKER_THREADS"] == "2")
        #expect(ztunnel.environment["PATH"] == "/bin")
    }
}
