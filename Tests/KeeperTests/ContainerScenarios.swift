import Glibc
import Handover
import LinuxNetwork
import Testing

/// What a keeper needs to know of containers: who ends is started again, and the run directory is shared with another pod.
@Suite("A keeper in a container", .serialized)
struct ContainerScenarios {
    @Test func onceSucceededItStaysWithNothingOpenUntilItIsTold() throws {
        let keeper = try KeeperProcess(format: "text", "--linger")
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        let old = keeper.child
        let log = try keeper.log
        #expect(!log.contains("taken over"))
        let successor = try keeper.successor()
        try keeper.says("another keeper has taken over")
        #expect(try agent.isClosed())
        try eventually("it has let go of everything but its standard streams and the wait for a signal") {
            try KeeperProcess.descriptors(of: old.pid).keys.sorted().allSatisfy { $0 < 3 + 1 }
        }
        keeper.continues(as: successor)
        let later = try keeper.agent()
        #expect(try later.states() == ["a": .waiting])
        // What is the successor's dies with the successor's descriptors alone.
        #expect(try later.ask(.removePod(uid: "a", drain: false)).error == nil)
        #expect(try pod.listeningPorts().isEmpty)
        #expect(!old.hasEnded())
        kill(old.pid, SIGTERM)
        #expect(try old.exitCode() == 0)
        #expect(try later.states() == [:], "its end is nobody's business")
    }

    @Test func itsContainerKnowsWhetherItServes() throws {
        let keeper = try KeeperProcess()
        let scratch = try Scratch()
        func ask(_ directory: String, through prefix: [String] = []) throws -> (code: CInt, text: String) {
            let child = try Child(
                prefix + [KeeperProcess.program, "--run-dir", directory, "--serving"], output: scratch.file("answer"))
            return (try child.exitCode(), try text(of: child.output))
        }
        #expect(try ask(keeper.directory).code == 0)
        let other = try ask(keeper.directory, through: ["/usr/bin/unshare", "--mount"])
        #expect(other.code == 1)
        #expect(other.text.contains("is another container's"))
        let nobody = try ask(scratch.path)
        #expect(nobody.code == 1)
        #expect(nobody.text.contains("no keeper serves"))
    }

    @Test(arguments: [
        ["--serving"], ["--run-dir", "/x", "--serving", "--takeover"], ["--run-dir", "/x", "--serving", "--serving"],
    ])
    func aQuestionThatMakesNoSenseIsRefused(words: [String]) throws {
        let scratch = try Scratch()
        let child = try Child([KeeperProcess.program] + words, output: scratch.file("log"))
        #expect(try child.exitCode() == 2)
        #expect(try text(of: child.output).contains("usage: apus-sockets"))
    }

    /// The old pod's ztunnel was started again and took over; then its pod ends, and the new pod's is there still.
    @Test func aZtunnelThatWasTakenOverFromIsCalledBack() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        let first = try keeper.ztunnel()
        _ = try first.takeSnapshot()
        let second = try keeper.ztunnel(successor: true)
        _ = try second.takeSnapshot()
        try keeper.says("a ztunnel has taken over")
        Sockets.shutDown(second.socket.raw)
        #expect(try first.isTurnedAway())
        let again = try keeper.ztunnel()
        #expect(try again.takeSnapshot().keys.sorted() == ["a"])
        try eventually("the pod is served") { try agent.states() == ["a": .served] }
    }
}
