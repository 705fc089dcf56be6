import Glibc
import Handover
import LinuxNetwork
import Testing

@Suite("The keeper as a program", .serialized)
struct ProgramScenarios {
    private func mode(_ path: String) throws -> (uid: UInt32, mode: UInt32) {
        var info = stat()
        try check("look at \(path)") { lstat(path, &info) }
        return (info.st_uid, info.st_mode & 0o7777)
    }

    @Test func itsSocketsAreTheirUsersAlone() throws {
        let keeper = try KeeperProcess(ztunnelUID: 15000)
        #expect(try mode(keeper.keeperSocket) == (0, 0o600))
        #expect(try mode(keeper.ztunnelDirectory) == (15000, 0o700))
        #expect(try mode(keeper.ztunnelSocket) == (15000, 0o600))
    }

    @Test func itMakesItsDirectorySoThatZtunnelCanPassThrough() throws {
        let scratch = try Scratch()
        let directory = scratch.file("run")
        defer { for name in ["ztunnel", ""] { rmdir(directory + "/" + name) } }
        let child = try Child(
            [KeeperProcess.program, "--run-dir", directory, "--ztunnel-uid", "15000"], output: scratch.file("log"))
        try eventually("it is ready") { try text(of: child.output).contains("ready") }
        #expect(try mode(directory) == (0, 0o711))
        kill(child.pid, SIGTERM)
        #expect(try child.exitCode() == 0)
    }

    @Test func aSecondKeeperRefusesAndADeadOnesSocketsAreReplaced() throws {
        let keeper = try KeeperProcess()
        let second = try Child(
            [KeeperProcess.program, "--run-dir", keeper.directory, "--ztunnel-uid", "0"],
            output: keeper.directory + "/log2")
        #expect(try second.exitCode() == 1)
        #expect(try text(of: second.output).contains("another apus-sockets is alive"))
        #expect(try keeper.agent().ask(.list).error == nil)

        kill(keeper.child.pid, SIGKILL)
        #expect(try keeper.child.exitCode() == -SIGKILL)
        #expect(try mode(keeper.keeperSocket).uid == 0, "it left its socket behind")
        try keeper.restart()
        #expect(try keeper.agent().ask(.list).pods.isEmpty)
    }

    @Test func sigtermEndsItCleanly() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        let ztunnel = try keeper.ztunnel()
        let pods = try ztunnel.takeSnapshot()
        kill(keeper.child.pid, SIGTERM)
        #expect(try keeper.child.exitCode() == 0)
        #expect(pods.count == 1)
        #expect(try pod.listeningPorts().isEmpty, "although ztunnel has copies")
        #expect(access(keeper.keeperSocket, F_OK) != 0)
        #expect(access(keeper.ztunnelSocket, F_OK) != 0)
    }

    @Test func directoriesThatOthersCanWriteAreRefused() throws {
        let keeper = try KeeperProcess()
        kill(keeper.child.pid, SIGTERM)
        _ = try keeper.child.exitCode()
        chmod(keeper.directory, 0o777)
        let open = try Child(
            [KeeperProcess.program, "--run-dir", keeper.directory, "--ztunnel-uid", "0"],
            output: keeper.directory + "/log2")
        #expect(try open.exitCode() == 1)
        #expect(try text(of: open.output).contains("writable by nobody else"))

        chmod(keeper.directory, 0o711)
        rmdir(keeper.ztunnelDirectory)
        symlink("/tmp", keeper.ztunnelDirectory)
        defer { unlink(keeper.ztunnelDirectory) }
        let before = try mode("/tmp")
        let linked = try Child(
            [KeeperProcess.program, "--run-dir", keeper.directory, "--ztunnel-uid", "15000"],
            output: keeper.directory + "/log2")
        #expect(try linked.exitCode() == 1)
        #expect(try mode("/tmp") == before)
    }

    @Test(arguments: [
        (["--run-dir", "/x"], "--ztunnel-uid is missing"),
        (["--ztunnel-uid", "1"], "--run-dir is missing"),
        (["--run-dir", "x", "--ztunnel-uid", "1"], "--run-dir must be an absolute path"),
        (["--run-dir", "/x", "--ztunnel-uid", "-1"], "--ztunnel-uid: -1 is no user id"),
        (["--run-dir", "/x", "--ztunnel-uid", "4294967295"], "--ztunnel-uid: 4294967295 is no user id"),
        (["--run-dir"], "--run-dir needs a value"),
        (["--run-dir="], "--run-dir needs a value"),
        (["--run-dir", "/x", "--run-dir=/y"], "--run-dir is given twice"),
        (
            ["--run-dir", "/x", "--ztunnel-uid", "1", "--log-format", "xml"],
            "--log-format: xml is neither text nor json"
        ),
        (["now"], "unknown argument now"),
    ])
    func aWrongCommandLineIsSaid(words: [String], message: String) throws {
        let scratch = try Scratch()
        let child = try Child([KeeperProcess.program] + words, output: scratch.file("out"))
        #expect(try child.exitCode() == 2)
        let said = try text(of: child.output)
        #expect(said.hasPrefix("apus-sockets: \(message)\n") && said.contains("usage:"))
    }

    @Test func helpIsNoError() throws {
        let scratch = try Scratch()
        let child = try Child([KeeperProcess.program, "--help"], output: scratch.file("out"))
        #expect(try child.exitCode() == 0)
        #expect(try text(of: child.output).hasPrefix("usage:"))
    }

    @Test func anErrorTextFromOutsideStaysInItsLine() throws {
        let keeper = try KeeperProcess(format: "json")
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        let ztunnel = try keeper.ztunnel()
        _ = try ztunnel.takeAddition()
        try ztunnel.answer("line\nbreak \u{1b}[2J \"quoted\" \\")
        _ = try agent.expect("a", .failed)
        let line = try #require(try keeper.log.split(separator: "\n").first { $0.contains("refuses a pod") })
        #expect(line.hasPrefix("{\"time\":\"20") && line.hasSuffix("}"))
        #expect(line.contains(#""error":"line\nbreak \u001b[2J \"quoted\" \\""#))
    }
}
