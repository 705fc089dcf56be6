import CNI
import Foundation
import Handover
import LinuxNetwork
import Testing

@Suite struct FailureTests {
    private static let quick = #""agentTimeoutMilliseconds":200"#
    private static let gcList = #""cni.dev/valid-attachments":[]"#

    /// Every verb against an agent that does not answer as it should.
    private func expectAway(_ conf: String, _ text: String, socket: String) throws {
        let pod = try Pod()
        for command in ["ADD", "CHECK", "GC", "STATUS"] {
            let code: CNIError.Code = command == "STATUS" ? .notAvailable : .tryAgainLater
            let error = expectError(try PluginProcess.run(pod.variables(command), conf), code, version: "1.1.0")
            #expect(error?.message.contains(text) == true, "\(command): \(String(describing: error))")
            #expect(error?.message.contains(socket) == true)
            #expect(error?.details.isEmpty == false)
        }
        let outcome = try PluginProcess.run(pod.variables("DEL"), conf)
        expectSilentSuccess(outcome)
        #expect(outcome.stderr.contains(text), "\(outcome.stderr)")
    }

    // MARK: The agent

    @Test func agentIsAway() throws {
        let pod = try Pod()
        try expectAway(netconf(socket: nowhere, "1.1.0", Self.gcList), "cannot reach the node agent", socket: nowhere)
        let error = expectError(
            try PluginProcess.run(pod.variables("ADD"), netconf(socket: nowhere)), .tryAgainLater)
        #expect(error?.details.contains("No such file or directory") == true)
        #expect(error?.details.contains("check that apus agent runs") == true)
    }

    @Test func agentHasGone() throws {
        // The socket's file outlives whoever listened.
        let path = "/tmp/apus-cni-test-\(UUID().uuidString).sock"
        defer { unlink(path) }
        do { _ = try SeqpacketSocket.listen(path: path, mode: 0o600) }
        try expectAway(netconf(socket: path, "1.1.0", Self.gcList), "cannot reach the node agent", socket: path)
    }

    @Test func somethingElseListens() throws {
        let path = "/tmp/apus-cni-test-\(UUID().uuidString)"
        defer { unlink(path) }
        #expect(FileManager.default.createFile(atPath: path, contents: nil))
        try expectAway(netconf(socket: path, "1.1.0", Self.gcList), "cannot reach the node agent", socket: path)
    }

    @Test func agentHangs() throws {
        let agent = try FakeAgent { _ in .silence }
        defer { agent.stop() }
        let begin = MonotonicClock.now
        try expectAway(
            netconf(agent, "1.1.0", Self.quick + "," + Self.gcList), "did not answer within 200 ms",
            socket: agent.socketPath)
        let elapsed = (MonotonicClock.now - begin) / 1_000_000
        #expect(elapsed >= 5 * 200)
        #expect(elapsed < 10_000)
        #expect(agent.calls.count == 5)
    }

    @Test func agentDoesNotAccept() throws {
        // A listener with its queue full: connect() itself has to wait, and to give up.
        let path = "/tmp/apus-cni-test-\(UUID().uuidString).sock"
        defer { unlink(path) }
        let listener = try SeqpacketSocket.listen(path: path, mode: 0o600, backlog: 0)
        let first = try SeqpacketSocket.connect(path: path)
        let conf = netconf(socket: path, "1.1.0", Self.quick + "," + Self.gcList)
        try expectAway(conf, "did not answer within 200 ms", socket: path)
        withExtendedLifetime(listener.raw + first.raw) {}
    }

    @Test func agentClosesWithoutAnAnswer() throws {
        let agent = try FakeAgent { _ in .close }
        defer { agent.stop() }
        try expectAway(netconf(agent, "1.1.0", Self.gcList), "cannot be read", socket: agent.socketPath)
    }

    @Test(
        arguments: [
            [0xff, 0xff, 0xff], Array("HTTP/1.1 200 OK\r\n\r\n".utf8), [0x08], [0x12, 0x01, 0x61], [0x7a, 0x00],
            [0x0a, 0x00],
            [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], [0x08, 0x00, 0x12, 0x01, 0xff],
        ] as [[UInt8]])
    func agentAnswersGarbage(_ bytes: [UInt8]) throws {
        let agent = try FakeAgent { _ in .bytes(bytes) }
        defer { agent.stop() }
        try expectAway(netconf(agent, "1.1.0", Self.gcList), "cannot be read", socket: agent.socketPath)
    }

    @Test func agentAnswersAtTooGreatALength() throws {
        let filling = [UInt8](repeating: 0x7a, count: CNIReply.maximumLength)
        let agent = try FakeAgent { _ in .bytes(CNIReply().encoded() + filling) }
        defer { agent.stop() }
        try expectAway(netconf(agent, "1.1.0", Self.gcList), "cannot be read", socket: agent.socketPath)
    }

    @Test func agentSendsADescriptor() throws {
        let agent = try FakeAgent { _ in .replyWithDescriptor }
        defer { agent.stop() }
        try expectAway(netconf(agent, "1.1.0", Self.gcList), "cannot be read", socket: agent.socketPath)
    }

    @Test func anotherUserListens() throws {
        let pod = try Pod()
        let path = "/tmp/apus-cni-test-\(UUID().uuidString).sock"
        defer { unlink(path) }
        let other = try OtherUser(listeningAt: path)
        try expectAway(netconf(socket: path, "1.1.0", Self.gcList), "cannot reach the node agent", socket: path)
        let error = expectError(
            try PluginProcess.run(pod.variables("ADD"), netconf(socket: path)), .tryAgainLater)
        #expect(error?.details.contains("user 65534") == true)
        withExtendedLifetime(other) {}
    }

    // MARK: The runtime

    @Test(arguments: [
        ("", CNIError.Code.decoding), ("garbage", .decoding), ("[]", .decoding), (#"{"name":5}"#, .decoding),
        ("{}", .invalidConfiguration), (#"{"name":"a/b"}"#, .invalidConfiguration),
        (#"{"name":"a"}"#, .incompatibleVersion),
    ])
    func netconfIsWrong(_ stdin: String, _ code: CNIError.Code) throws {
        let pod = try Pod()
        for command in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            expectError(try PluginProcess.run(pod.variables(command), stdin), code, version: "1.1.0")
        }
    }

    @Test func netconfIsHuge() throws {
        let pod = try Pod()
        let nested = String(repeating: "[", count: JSONReader.maximumSize)
        let deep = expectError(try PluginProcess.run(pod.variables("ADD"), nested), .decoding, version: "1.1.0")
        #expect(deep?.message.contains("nested deeper than 64 levels") == true)
        let long = expectError(
            try PluginProcess.run(pod.variables("ADD"), nested + nested + nested), .decoding, version: "1.1.0")
        #expect(long?.message.contains("longer than 1048576 bytes") == true)
    }

    @Test func netconfNeverEnds() throws {
        let pod = try Pod()
        let pair = try SeqpacketSocket.Pair()
        let process = try PluginProcess(pod.variables("STATUS"), stdin: [], descriptor: pair.first.raw)
        let error = expectError(try process.wait(), .inputOutput, version: "1.1.0")
        #expect(error?.message.contains("stdin") == true)
    }

    @Test func aLargeResultPassesWhole() throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let result = #"{"cniVersion":"1.0.0","x":["# + String(repeating: "1.0,", count: 250_000) + "1]}"
        let outcome = try PluginProcess.run(pod.variables("ADD"), netconf(agent, "1.0.0", "\"prevResult\":\(result)"))
        #expect(outcome.exitCode == 0)
        #expect(outcome.text == result + "\n")
    }

    @Test func asksForNoMoreThanTheAgentTakes() throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let ips = Array(repeating: #"{"address":"10.0.0.1/8"}"#, count: 65).joined(separator: ",")
        let conf = netconf(agent, "1.0.0", #""prevResult":{"ips":[\#(ips)]}"#)
        let error = expectError(try PluginProcess.run(pod.variables("ADD"), conf), .invalidConfiguration)
        #expect(error?.message.contains("more than 64") == true, "\(String(describing: error))")
        expectSilentSuccess(try PluginProcess.run(pod.variables("DEL"), conf))
        #expect(agent.calls.isEmpty)
    }

    @Test func variablesAreMissing() throws {
        let error = expectError(
            try PluginProcess.run(["CNI_COMMAND": "ADD"], netconf(socket: nowhere)), .invalidEnvironment)
        #expect(error?.message == "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing")
        let unknown = expectError(
            try PluginProcess.run(["CNI_COMMAND": "UPDATE"], netconf(socket: nowhere)), .invalidEnvironment)
        #expect(unknown?.message == "unknown CNI_COMMAND: UPDATE")
    }

    @Test func streamsAreClosed() throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let conf = Array(netconf(agent).utf8)
        // Without stdout the result has nowhere to go; it must not go into the agent's socket.
        _ = try PluginProcess(pod.variables("ADD"), stdin: conf, streams: .noStdout).wait()
        #expect(agent.calls.count == 1)
        #expect(agent.faults.isEmpty, "\(agent.faults)")
        let outcome = try PluginProcess(pod.variables("ADD"), stdin: conf, streams: .noStdin).wait()
        expectError(outcome, .decoding, version: "1.1.0")
    }

    // MARK: Many

    @Test func fiftyAtOnce() throws {
        let agent = try FakeAgent()
        defer { agent.stop() }
        let pods = try (0..<50).map { _ in try Pod() }
        let processes = try pods.enumerated().map { index, pod in
            let conf = netconf(agent, "1.0.0", #""prevResult":{"cniVersion":"1.0.0","n":\#(index)}"#)
            return try PluginProcess(pod.variables("ADD", ["CNI_CONTAINERID": "c\(index)"]), stdin: Array(conf.utf8))
        }
        for (index, process) in processes.enumerated() {
            let outcome = try process.wait()
            #expect(outcome.exitCode == 0, "\(outcome.text)")
            #expect(outcome.text == #"{"cniVersion":"1.0.0","n":\#(index)}"# + "\n")
        }
        var seen: [String: [NamespaceID]] = [:]
        for call in agent.calls { seen[call.request.containerID] = call.namespaces }
        #expect(agent.calls.count == 50)
        for (index, pod) in pods.enumerated() { #expect(seen["c\(index)"] == [pod.namespace.id]) }
    }
}
