import Foundation
import Testing

@testable import LocalCluster

@Suite("Programs that are run")
struct CommandTests {
    @Test func inputGoesInAndOutputComesOut() throws {
        #expect(try Command.run("cat", input: "hello") == "hello")
        #expect(try Command.run("sh", "-c", "echo out; echo err >&2") == "out\n")
    }

    @Test func muchInputAndOutputDoNotBlockEachOther() throws {
        let text = String(repeating: "0123456789abcde\n", count: 40_000)
        #expect(try Command.run("cat", input: text) == text)
    }

    @Test func aFailureSaysWhatWasRunAndWhatItSaid() throws {
        let error = #expect(throws: LocalClusterError.self) { try Command.run("sh", "-c", "echo no way >&2; exit 3") }
        #expect(error?.code == .command)
        #expect(error?.description.contains("status 3: no way") == true)
        #expect(try Command(["sh", "-c", "kill -9 $$"]).run().status == 137)
    }

    @Test func aMissingProgramIsNamed() {
        let error = #expect(throws: LocalClusterError.self) { try Command.run("no-such-program") }
        #expect(error?.code == .environment)
        #expect(error?.description.contains("no-such-program") == true)
    }

    @Test func whatTakesTooLongIsEnded() throws {
        var command = Command(["sleep", "60"])
        command.timeout = .milliseconds(100)
        let start = ContinuousClock.now
        let error = #expect(throws: LocalClusterError.self) { try command.run() }
        #expect(error?.code == .timeout)
        #expect(ContinuousClock.now - start < .seconds(10))
    }

    @Test func aProgramThatReadsNothingIsNoError() throws {
        #expect(try Command.run("true", input: String(repeating: "x", count: 300_000)) == "")
    }

    @Test func waitingEndsWithTheLastDetail() {
        var looks = 0
        let error = #expect(throws: LocalClusterError.self) {
            try Waiting.untilTrue(
                "the impossible", within: .milliseconds(60), every: .milliseconds(5), detail: { "look \(looks)" }
            ) {
                looks += 1
                return false
            }
        }
        #expect(error?.code == .timeout)
        #expect(error?.hint == "look \(looks)")
        #expect(looks > 1)
    }
}
