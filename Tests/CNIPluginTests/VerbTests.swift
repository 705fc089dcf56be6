import CNI
import Handover
import LinuxNetwork
import Testing

@Suite struct VerbTests {
    // MARK: VERSION and about

    @Test func saysWhatItIs() throws {
        let outcome = try PluginProcess.run([:], "")
        expectSilentSuccess(outcome)
        #expect(outcome.stderr.contains("CNI plugin apus-cni"))
        #expect(outcome.stderr.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"))
    }

    @Test(arguments: [("", "1.1.0"), (#"{"cniVersion":"0.4.0"}"#, "0.4.0"), ("garbage", "1.1.0")])
    func answersVersion(_ stdin: String, _ version: String) throws {
        let outcome = try PluginProcess.run(["CNI_COMMAND": "VERSION"], stdin)
        #expect(outcome.exitCode == 0)
        #expect(
            outcome.text
                == #"{"cniVersion":"\#(version)","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}"# + "\n")
        #expect(outcome.stderr.isEmpty)
    }

    @Test func answersVersionThoughStdinStaysOpen() throws {
        let pair = try SeqpacketSocket.Pair()
        let process = try PluginProcess(["CNI_COMMAND": "VERSION"], stdin: [], descriptor: pair.first.raw)
        let outcome = try process.wait()
        #expect(outcome.exitCode == 0)
        #expect(outcome.text.hasPrefix(#"{"cniVersion":"1.1.0""#))
    }

    // MARK: ADD

    @Test(arguments: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    func addsAndPassesTheResultOn(_ version: String) throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let result = result100.replacing("\"1.0.0\"", with: "\"\(version)\"")
        let outcome = try PluginProcess.run(pod.variables("ADD"), netconf(agent, version, "\"prevResult\":\(result)"))
        #expect(outcome.exitCode == 0)
        #expect(outcome.text == result + "\n")
        #expect(outcome.stderr.isEmpty)
        let call = try #require(agent.calls.first)
        #expect(agent.calls.count == 1)
        #expect(
            call.request
                == CNIRequest(
                    verb: .add, networkName: "pods", containerID: "c0ffee", interfaceName: "eth0", netnsPath: pod.path,
                    podName: "web-0", podNamespace: "shop", podUID: "u-1", addresses: ["10.1.2.3/24", "fd00::3/64"]))
        #expect(call.namespaces == [pod.namespace.id])
    }

    @Test func addsWithoutAChain() throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let outcome = try PluginProcess.run(pod.variables("ADD"), netconf(agent, "0.3.1"))
        #expect(outcome.exitCode == 0)
        #expect(outcome.text == #"{"cniVersion":"0.3.1","dns":{}}"# + "\n")
        #expect(agent.calls.count == 1)
    }

    @Test(
        arguments: [
            ["CNI_ARGS": nil], ["CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=a"], ["CNI_ARGS": "K8S_POD_NAMESPACE=a"],
            ["CNI_ARGS": "K8S_POD_NAME=;K8S_POD_NAMESPACE=a"],
            ["CNI_ARGS": "K8S_POD_NAME=a;K8S_POD_NAMESPACE=kube-system"],
            ["CNI_ARGS": "K8S_POD_NAME=a;K8S_POD_NAMESPACE=istio-system", "CNI_NETNS": "/nowhere"],
        ] as [[String: String?]])
    func leavesAloneWhatIsNotItsBusiness(_ changes: [String: String?]) throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let fields = "\"prevResult\":\(result100)"
        for conf in [netconf(agent, "1.0.0", fields), netconf(socket: nowhere, "1.0.0", fields)] {
            let outcome = try PluginProcess.run(pod.variables("ADD", changes), conf)
            #expect(outcome.exitCode == 0, "\(outcome.stderr)")
            #expect(outcome.text == result100 + "\n")
            expectSilentSuccess(try PluginProcess.run(pod.variables("CHECK", changes), conf))
        }
        #expect(agent.calls.isEmpty)
    }

    @Test func exemptsWhatTheConfigurationLists() throws {
        let pod = try Pod()
        let conf = netconf(socket: nowhere, "1.0.0", #""exemptNamespaces":["shop"]"#)
        #expect(try PluginProcess.run(pod.variables("ADD"), conf).exitCode == 0)
        let none = netconf(socket: nowhere, "1.0.0", #""exemptNamespaces":[]"#)
        let changes = ["CNI_ARGS": "K8S_POD_NAME=a;K8S_POD_NAMESPACE=kube-system"]
        expectError(try PluginProcess.run(pod.variables("ADD", changes), none), .tryAgainLater)
    }

    @Test(arguments: [7, 11, 100, 999, 4_000_000_000] as [UInt32])
    func passesTheAgentsErrorOn(_ code: UInt32) throws {
        let agent = try FakeAgent { _ in .reply(CNIReply(code: code, message: "no \"way\"\n", details: "ask é")) }
        let pod = try Pod()
        defer { agent.stop() }
        for command in ["ADD", "CHECK", "GC", "STATUS"] {
            let conf = netconf(agent, "1.1.0", #""cni.dev/valid-attachments":[]"#)
            let error = expectError(
                try PluginProcess.run(pod.variables(command), conf), CNIError.Code(rawValue: code), version: "1.1.0")
            #expect(error?.message == "no \"way\"\n")
            #expect(error?.details == "ask é")
        }
        expectSilentSuccess(try PluginProcess.run(pod.variables("DEL"), netconf(agent)))
        #expect(agent.calls.count == 5)
    }

    @Test func givesAReasonWhereTheAgentGaveNone() throws {
        let pod = try Pod()
        let agent = try FakeAgent { _ in .reply(CNIReply(code: 11)) }
        defer { agent.stop() }
        let error = expectError(try PluginProcess.run(pod.variables("ADD"), netconf(agent)), .tryAgainLater)
        #expect(error?.message == "the node agent refused and gave no reason")
    }

    // MARK: The namespace

    @Test(arguments: [
        "/nowhere/netns", "/dev/null", "/etc/passwd", "/proc/self/ns/pid", "relative", "/proc/self/ns", "\n",
    ])
    func refusesWhatIsNoNamespace(_ path: String) throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        for command in ["ADD", "CHECK"] {
            let error = expectError(
                try PluginProcess.run(pod.variables(command, ["CNI_NETNS": path]), netconf(agent)), .invalidNamespace)
            #expect(error?.message.contains("CNI_NETNS") == true)
        }
        #expect(agent.calls.isEmpty)
    }

    @Test func refusesItsOwnNamespaceUnlessTold() throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let own = ["CNI_NETNS": "/proc/self/ns/net"]
        for command in ["ADD", "CHECK"] {
            let error = expectError(
                try PluginProcess.run(pod.variables(command, own), netconf(agent)), .invalidNamespace)
            #expect(error?.message == "plugin's netns and netns from CNI_NETNS should not be the same")
        }
        let exempt = own.merging(["CNI_ARGS": ""]) { $1 }
        expectError(try PluginProcess.run(pod.variables("ADD", exempt), netconf(agent)), .invalidNamespace)
        #expect(agent.calls.isEmpty)
        let told = own.merging(["CNI_NETNS_OVERRIDE": "TRUE"]) { $1 }
        #expect(try PluginProcess.run(pod.variables("ADD", told), netconf(agent)).exitCode == 0)
        #expect(agent.calls.map(\.namespaces) == [[try NetworkNamespace.current().id]])
    }

    // MARK: CHECK, STATUS, GC

    @Test func checks() throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let conf = netconf(agent, "0.4.0", "\"prevResult\":\(result100)")
        expectSilentSuccess(try PluginProcess.run(pod.variables("CHECK"), conf))
        #expect(agent.calls.map(\.request.verb) == [.check])
        #expect(agent.calls.first?.namespaces == [pod.namespace.id])
        #expect(agent.calls.first?.request.addresses == ["10.1.2.3/24", "fd00::3/64"])
    }

    @Test func tellsTheStatus() throws {
        let agent = try FakeAgent()
        defer { agent.stop() }
        expectSilentSuccess(try PluginProcess.run(["CNI_COMMAND": "STATUS"], netconf(agent, "1.1.0")))
        #expect(agent.calls.map(\.request) == [CNIRequest(verb: .status, networkName: "pods")])
    }

    @Test func forwardsWhatIsValid() throws {
        let agent = try FakeAgent()
        defer { agent.stop() }
        let gc = ["CNI_COMMAND": "GC", "CNI_PATH": "/opt/cni/bin"]
        let list =
            #""cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"},{"containerID":"b","ifname":"n1"}]"#
        expectSilentSuccess(try PluginProcess.run(gc, netconf(agent, "1.1.0", list)))
        expectSilentSuccess(try PluginProcess.run(gc, netconf(agent, "1.1.0", #""cni.dev/valid-attachments":null"#)))
        let unsaid = try PluginProcess.run(gc, netconf(agent, "1.1.0"))
        expectSilentSuccess(unsaid)
        #expect(unsaid.stderr.contains("nothing removed"))
        #expect(agent.calls.map(\.request.verb) == [.gc, .gc])
        let valid = [
            CNIRequest.Attachment(containerID: "a", interfaceName: "eth0"),
            CNIRequest.Attachment(containerID: "b", interfaceName: "n1"),
        ]
        #expect(agent.calls.map(\.request.validAttachments) == [valid, []])
    }

    @Test func forwardsManyAttachments() throws {
        let agent = try FakeAgent()
        defer { agent.stop() }
        let gc = ["CNI_COMMAND": "GC", "CNI_PATH": "/opt/cni/bin"]
        let id = String(repeating: "f", count: 64)
        func list(_ count: Int) -> String {
            let one = #"{"containerID":"\#(id)","ifname":"eth0"}"#
            return #""cni.dev/valid-attachments":["# + Array(repeating: one, count: count).joined(separator: ",") + "]"
        }
        // More than the kernel's default send buffer takes in one packet.
        expectSilentSuccess(try PluginProcess.run(gc, netconf(agent, "1.1.0", list(10_000))))
        #expect(agent.calls.first?.request.validAttachments.count == 10_000)
        #expect(agent.calls.first?.truncated == false)
    }

    // MARK: DEL

    @Test func deletesTwice() throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let conf = netconf(agent, "1.0.0", "\"prevResult\":\(result100)")
        for _ in 0..<2 {
            let outcome = try PluginProcess.run(pod.variables("DEL"), conf)
            expectSilentSuccess(outcome)
            #expect(outcome.stderr.isEmpty)
        }
        #expect(agent.calls.map(\.request.verb) == [.delete, .delete])
        #expect(agent.calls.map(\.namespaces) == [[pod.namespace.id], [pod.namespace.id]])
        #expect(agent.calls.first?.request.containerID == "c0ffee")
    }

    @Test(arguments: [nil, "", "/nowhere", "/etc/passwd", "/proc/self/ns/net"])
    func deletesWithoutAUsableNamespace(_ path: String?) throws {
        let pod = try Pod()
        let agent = try FakeAgent()
        defer { agent.stop() }
        expectSilentSuccess(try PluginProcess.run(pod.variables("DEL", ["CNI_NETNS": path]), netconf(agent)))
        #expect(agent.calls.map(\.request.verb) == [.delete])
        #expect(agent.calls.first?.namespaces == [])
    }

    @Test func deletesInSpiteOfFlaws() throws {
        let (agent, pod) = (try FakeAgent(), try Pod())
        defer { agent.stop() }
        let conf = netconf(agent, "1.0.0", #""prevResult":"gone","exemptNamespaces":5"#)
        let outcome = try PluginProcess.run(pod.variables("DEL", ["CNI_ARGS": "garbage"]), conf)
        expectSilentSuccess(outcome)
        #expect(outcome.stderr.contains("prevResult"))
        #expect(outcome.stderr.contains("exemptNamespaces"))
        #expect(outcome.stderr.contains("CNI_ARGS"))
        #expect(agent.calls.count == 1)
    }
}
