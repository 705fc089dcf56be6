import CNI
import Glibc
import Handover
import LinuxNetwork
import ObjectSource
import Redirection
import TestSupport
import Testing

@testable import NodeAgent

@Suite("The verbs of the CNI plugin", .serialized)
struct CallTests {
    @Test("ADD of a pod in the mesh: sockets, then rules, then status")
    func add() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        let reply = await fixture.call(.add, "c1", pod, uid: "u-1")
        #expect(reply == CNIReply())
        #expect(fixture.journal.all == ["keeper add u-1", "apply", "status enabled"])
        #expect(try pod.drift().isEmpty)
        #expect(fixture.keeper.pods["u-1"]?.netnsInode == pod.namespace.id.inode)
        #expect(fixture.keeper.pods["u-1"]?.serviceAccount == "cashier")
        #expect(try fixture.records == ["c1"])
        let state = try #require(await fixture.pod("c1"))
        #expect(state.phase == .capturing && state.isProven && state.reported == "enabled")

        // The same again changes nothing; another interface of the same pod is no other pod.
        #expect(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        #expect(await fixture.call(.add, "c1", pod, interface: "net1", uid: "u-1").code == 0)
        #expect(await fixture.agent.managedPods().count == 1)
        #expect(await fixture.call(.check, "c1", pod).code == 0)
        try await fixture.stop()
        // Nothing is taken away when the agent ends.
        #expect(try pod.drift().isEmpty)
    }

    @Test("without a ztunnel the pod starts, pending, and is enabled when one serves it")
    func pending() async throws {
        let fixture = try await AgentFixture()
        fixture.keeper.setServes(false)
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        #expect(fixture.annotator["web"] == "pending")
        fixture.keeper.setServes(true)
        try await eventually("enabled") { fixture.annotator["web"] == "enabled" }
        // A restart of ztunnel does not change the report; a refusal does.
        fixture.keeper.setServes(false)
        fixture.keeper.setServes(true)
        fixture.keeper.setServes(false, state: .failed)
        try await eventually("pending again") { fixture.annotator["web"] == "pending" }
        #expect(
            fixture.journal.all
                == ["keeper add c1", "apply", "status pending", "status enabled", "status pending"])
        try await fixture.stop()
    }

    @Test("a status whose writing hangs holds up neither another pod's nor the keeper's news")
    func hanging() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        for (name, pod) in [("web", try FakePod()), ("db", try FakePod("10.99.0.8"))] {
            fixture.source.setPod(name)
            #expect(await fixture.call(.add, "c-\(name)", pod, name: name, uid: "u-\(name)").code == 0)
            #expect(fixture.annotator[name] == "enabled")
        }
        for name in ["web", "db"] {
            let other = name == "web" ? "db" : "web"
            fixture.annotator.hold(name)
            fixture.keeper.setServes(false, state: .failed)
            try await eventually("the other is told") { fixture.annotator[other] == "pending" }
            #expect(fixture.annotator[name] == "enabled")
            fixture.keeper.setServes(true)
            try await eventually("and again") { fixture.annotator[other] == "enabled" }
            fixture.annotator.letGo()
            try await eventually("both are told of the last") {
                fixture.annotator["web"] == "enabled" && fixture.annotator["db"] == "enabled"
            }
        }
        try await fixture.stop()
    }

    @Test("a pod that stays unserved for longer than a restart takes is pending")
    func graceEnds() async throws {
        let fixture = try await AgentFixture { $0.pendingGrace = .milliseconds(50) }
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        #expect(await fixture.call(.add, "c1", try FakePod()).code == 0)
        #expect(fixture.annotator["web"] == "enabled")
        fixture.keeper.setServes(false)
        try await eventually("pending") { fixture.annotator["web"] == "pending" }
        try await fixture.stop()
    }

    @Test("ADD of a pod outside the mesh is remembered, and nothing is done to it")
    func notLabelled() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setPod("web")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        #expect(fixture.journal.all.isEmpty)
        #expect(try !pod.hasCapture())
        #expect(await fixture.pod("c1")?.phase == .attached)
        #expect(try fixture.records == ["c1"])
        #expect(await fixture.call(.check, "c1", pod).code == 0)
        #expect(await fixture.call(.delete, "c1", pod).code == 0)
        #expect(try fixture.records.isEmpty)
        try await fixture.stop()
    }

    @Test("an exempt namespace is none of the agent's business")
    func exempt() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("kube-system", ambient: true)
        #expect(await fixture.call(.add, "c1", try FakePod(), podNamespace: "kube-system").code == 0)
        #expect(await fixture.agent.managedPods().isEmpty)
        try await fixture.stop()
    }

    @Test("requests and namespaces that are refused, each with its code and reason; the next good one works")
    func refused() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        for name in ["web", "other"] { fixture.source.setPod(name) }
        let pod = try FakePod()
        let other = try FakePod("10.99.0.8")
        #expect(await fixture.call(.add, "other", other, name: "other").code == 0)

        func expect(_ reply: CNIReply, _ code: CNIError.Code, _ words: String) {
            #expect(reply.code == code.rawValue)
            #expect("\(reply.message) \(reply.details)".contains(words), "\(reply)")
        }
        expect(await fixture.call(.add, "../c1", pod), .invalidEnvironment, "CNI_CONTAINERID")
        expect(await fixture.call(.add, "", pod), .invalidEnvironment, "CNI_CONTAINERID")
        expect(await fixture.call(.add, "c1", pod, interface: ""), .invalidEnvironment, "CNI_IFNAME")
        expect(await fixture.call(.add, "c1", pod, name: ""), .invalidEnvironment, "K8S_POD_NAME")
        expect(await fixture.call(.add, "c1"), .invalidNamespace, "no network namespace")
        expect(
            await fixture.call(.add, "c1", pod, addresses: ["10.99.0.9/24"]), .invalidNamespace, "none of the pod's")
        expect(await fixture.call(.add, "c1", pod, addresses: ["nonsense"]), .invalidEnvironment, "nonsense")
        expect(
            await fixture.call(.add, "c1", other, addresses: ["10.99.0.8/24"]), .invalidNamespace, "another pod")
        expect(await fixture.call(.add, "c1", pod, name: "nobody"), .tryAgainLater, "shop/nobody")

        let host = SharedNamespace(try NetworkNamespace.current())
        let request = CNIRequest(
            verb: .add, containerID: "c1", interfaceName: "eth0", podName: "web", podNamespace: "shop")
        expect(
            await fixture.agent.answer(CNICall(request: request, namespace: .success(host))), .invalidNamespace,
            "the node's own")
        let noNamespace = CNICall(request: request, namespace: .failure(SystemError("no namespace", code: EINVAL)))
        expect(await fixture.agent.answer(noNamespace), .invalidNamespace, "not a network namespace")

        expect(await fixture.call(.check, "c1", pod), .unknownContainer, "c1")
        expect(await fixture.call(.check, "other", pod), .invalidNamespace, "not the namespace")
        #expect(try fixture.records == ["other"])
        #expect(try !pod.hasCapture())

        #expect(await fixture.call(.add, "c1", pod).code == 0)
        #expect(try pod.drift().isEmpty)
        #expect(try other.drift().isEmpty)
        try await fixture.stop()
    }

    @Test("an ADD waits for an object that is about to appear")
    func objectComesLate() async throws {
        let fixture = try await AgentFixture { $0.objectWait = .seconds(10) }
        fixture.source.setNamespace("shop", ambient: true)
        // One of an earlier pod with the name does not count.
        fixture.source.setPod("web", uid: "old")
        let pod = try FakePod()
        async let reply = fixture.call(.add, "c1", pod, uid: "new")
        // The agent's own two readers, and the ADD's.
        try await eventually("the ADD waits") { fixture.source.readers == 3 }
        fixture.source.setPod("web", uid: "new")
        #expect(await reply.code == 0)
        #expect(fixture.keeper.pods["new"] != nil)
        try await fixture.stop()
    }

    @Test("without a keeper an ADD fails and leaves nothing; STATUS says 50; then both work")
    func keeperAway() async throws {
        let fixture = try await AgentFixture(keeperAway: true)
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        let pod = try FakePod()
        #expect(await fixture.call(.status, "").code == CNIError.Code.notAvailable.rawValue)
        #expect(await fixture.call(.add, "c1", pod).code == CNIError.Code.tryAgainLater.rawValue)
        #expect(try !pod.hasCapture())
        #expect(await fixture.agent.managedPods().isEmpty)
        fixture.keeper.setAway(false)
        try await eventually("STATUS is good") { await fixture.call(.status, "").code == 0 }
        #expect(await fixture.call(.add, "c2", pod).code == 0)
        // What the failed one left to tell the keeper must not take the new one away.
        try await eventually("the failed one is forgotten") { try fixture.records == ["c2"] }
        #expect(fixture.keeper.pods.count == 1)
        try await fixture.stop()
    }

    @Test("when the kernel refuses the rules, the sockets go again")
    func kernelRefuses() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        fixture.backend.fail(RedirectionError(.kernel, "no nf_tables", hint: "load it"))
        let pod = try FakePod()
        let reply = await fixture.call(.add, "c1", pod)
        #expect(reply.code == CNIError.Code.other.rawValue)
        #expect(reply.message == "no nf_tables" && reply.details == "load it")
        #expect(fixture.keeper.pods.isEmpty)
        #expect(try fixture.records.isEmpty)
        fixture.backend.fail(nil)
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        try await fixture.stop()
    }

    @Test("CHECK names what is wrong, and it is repaired")
    func check() async throws {
        // What is heard of is repaired by CHECK alone, which has to find it first.
        let fixture = try await AgentFixture { $0.driftPause = .seconds(60) }
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        try pod.harm()
        let rules = await fixture.call(.check, "c1", pod)
        #expect(rules.code == CNIError.Code.other.rawValue)
        #expect(rules.message.contains("chain nat-output lacks the rule"))
        try await eventually("rules are back") { try pod.drift().isEmpty }
        fixture.keeper.lose("c1")
        let sockets = await fixture.call(.check, "c1", pod)
        #expect(sockets.message.contains("the keeper has no sockets"))
        #expect(await fixture.call(.check, "c1").code == CNIError.Code.invalidNamespace.rawValue)
        try await fixture.stop()
    }

    @Test("DEL takes everything away, any number of times, in any order")
    func delete() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        let pod = try FakePod()
        #expect(await fixture.call(.delete, "c1", pod).code == 0)
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        #expect(await fixture.call(.add, "c1", pod, interface: "net1").code == 0)
        #expect(await fixture.call(.delete, "c1", nil, interface: "net1").code == 0)
        #expect(try pod.drift().isEmpty)
        for _ in 0..<2 {
            #expect(await fixture.call(.delete, "c1").code == 0)
            #expect(try !pod.hasCapture())
            #expect(fixture.keeper.pods.isEmpty)
            #expect(try fixture.records.isEmpty)
            #expect(fixture.annotator["web"] == nil)
        }
        // What an ADD left that nobody remembers.
        try NftablesBackend().apply(RedirectionPlan(), in: pod.namespace.value)
        #expect(await fixture.call(.delete, "forgotten", pod).code == 0)
        #expect(try !pod.hasCapture())
        #expect(await fixture.call(.delete, "../x").code == 0)
        try await fixture.stop()
    }

    @Test("DEL while the keeper is away succeeds; the keeper hears of it later, also from the next agent")
    func deleteWithoutKeeper() async throws {
        let folder = try TemporaryFolder()
        let first = try await AgentFixture(folder: folder)
        first.source.setNamespace("shop", ambient: true)
        first.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        #expect(await first.call(.add, "c1", pod, uid: "u-1").code == 0)
        first.keeper.setAway(true)
        #expect(await first.call(.delete, "c1").code == 0)
        #expect(try first.records == ["c1"])
        try await first.stop()
        first.keeper.setAway(false)
        let second = try await AgentFixture(folder: folder, source: first.source, keeperPods: first.keeper)
        try await eventually("the keeper has heard") { first.keeper.pods.isEmpty }
        try await eventually("the record is gone") { try second.records.isEmpty }
        try await second.stop()
    }

    @Test("a new sandbox of a pod takes the old one's place; the old one's late DEL does it no harm")
    func newSandbox() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web", uid: "u-1")
        let old = try FakePod()
        let new = try FakePod()
        #expect(await fixture.call(.add, "c1", old, uid: "u-1").code == 0)
        #expect(await fixture.call(.add, "c2", new, uid: "u-1").code == 0)
        #expect(await fixture.call(.delete, "c1", old).code == 0)
        #expect(fixture.keeper.pods["u-1"]?.netnsInode == new.namespace.id.inode)
        #expect(try new.drift().isEmpty)
        #expect(fixture.annotator["web"] == "enabled")
        #expect(try fixture.records == ["c2"])
        try await fixture.stop()
    }

    @Test("GC removes what is not valid in its network, and nothing else")
    func collectGarbage() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        var namespaces: [FakePod] = []
        for index in 0..<4 {
            fixture.source.setPod("p\(index)")
            let pod = try FakePod()
            namespaces.append(pod)
            #expect(await fixture.call(.add, "c\(index)", pod, name: "p\(index)").code == 0)
        }
        let valid = [("c0", "eth0"), ("c2", "eth0"), ("c3", "net9"), ("unknown", "eth0")]
            .map { CNIRequest.Attachment(containerID: $0.0, interfaceName: $0.1) }
        var request = CNIRequest(verb: .gc, networkName: "another", validAttachments: [])
        #expect(await fixture.agent.answer(CNICall(request: request, namespace: nil)).code == 0)
        #expect(try fixture.records.count == 4)
        request = CNIRequest(verb: .gc, networkName: "mesh", validAttachments: valid)
        #expect(await fixture.agent.answer(CNICall(request: request, namespace: nil)).code == 0)
        #expect(try fixture.records == ["c0", "c2"])
        #expect(Set(fixture.keeper.pods.keys) == ["c0", "c2"])
        #expect(try namespaces.map { try $0.hasCapture() } == [true, false, true, false])
        try await fixture.stop()
    }
}
