import Foundation
import Glibc
import Testing

@testable import TestSupport

@Suite("Processes that tests start", .timeLimit(.minutes(1)))
struct PeerTests {
    /// Deaf to what may be ignored, with a child that is, too; says when both are there.
    private static let deaf = "trap '' TERM INT HUP; sh -c \"trap '' TERM; echo \\$\\$; exec sleep 60\" & echo; wait"

    /// - Returns: The number of the child.
    private func start(_ make: (Pipe) throws -> Void) throws -> Int32 {
        let output = Pipe()
        try make(output)
        var text = ""
        while text.filter(\.isNewline).count < 2 {
            let more = output.fileHandleForReading.availableData
            try #require(!more.isEmpty, "it has ended")
            text += String(decoding: more, as: UTF8.self)
        }
        return try #require(Int32(text.filter(\.isNumber)))
    }

    private func isGone(_ pid: Int32) -> Bool {
        guard kill(pid, 0) == 0 else { return true }
        // Dead, and not yet waited for by whoever inherited it.
        let stat = (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)) ?? ""
        return stat.isEmpty || stat.contains(") Z ")
    }

    @Test("one that ignores SIGTERM ends with its value")
    func deafness() async throws {
        var peer: Peer?
        let child = try start { peer = try Peer(["sh", "-c", Self.deaf], output: .pipe($0)) }
        let pid = try #require(peer?.pid)
        peer?.signal(SIGTERM)
        #expect(peer?.isRunning == true)
        peer = nil
        #expect(isGone(pid))
        // Nobody but the guardian knows of the child, while this process lives.
        kill(child, SIGKILL)
    }

    @Test(
        "when the test's process is gone, all are, with what they started; one that ended before is nobody's business")
    func guardian() async throws {
        let guardian = try Guardian()
        let process = Process()
        let child = try start { output in
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", Self.deaf]
            process.standardOutput = output
            try process.run()
        }
        let other = try Peer(["sleep", "60"])
        guardian.watch(process.processIdentifier)
        guardian.watch(other.pid)
        guardian.forget(other.pid)
        guardian.close()
        try await eventually("both are gone") { isGone(process.processIdentifier) && isGone(child) }
        #expect(other.isRunning)
    }

    @Test("what one says comes whole, with its status")
    func run() throws {
        let (status, text) = try PeerRun.run(
            ["sh", "-c", "echo $WORD; echo more >&2; exit 3"], adding: ["WORD": "one"])
        #expect(status == 3 && text == "one\nmore\n")
    }

    @Test("what does not come in time is named")
    func time() async throws {
        let error = await #expect(throws: NotInTime.self) {
            try await eventually("the moon", within: .milliseconds(20)) { false }
        }
        #expect(error?.description.contains("the moon") == true)
    }
}
