import Glibc
import Handover
import LinuxNetwork
import Testing

@Suite("The keeper and the agent", .serialized)
struct AgentScenarios {
    @Test func whenTheAgentGoesNothingHappensAndTheNextOneAdopts() throws {
        let keeper = try KeeperProcess()
        let (first, second) = (try TestPod("a"), try TestPod("b"))
        var agent: TestAgent? = try keeper.agent()
        _ = try agent?.add(first)
        let ztunnel = try keeper.ztunnel()
        let handed = try #require(try ztunnel.takeSnapshot()["a"])
        agent = nil
        try keeper.says("the agent is gone")

        let client = try first.connect("127.0.0.1:15001")
        let accepted = try handed.accept(.listenerOutbound)
        #expect(Sockets.peerEndpoint(accepted.raw) == Sockets.localEndpoint(client.raw))
        let next = try keeper.agent()
        let pods = try next.ask(.list).pods
        #expect(pods.map(\.uid) == ["a"])
        #expect(pods.map(\.netnsInode) == [first.namespace.id.inode])
        #expect(pods.map(\.name) == ["name-a"])
        #expect(pods.map(\.state) == [.served])
        // Adding again what is there changes nothing, and ztunnel is not asked.
        #expect(try next.add(first).pods.map(\.state) == [.served])
        let added = try next.send(.addPod(next.description(second)), [second.namespace.raw])
        #expect(try ztunnel.takeAddition().uid == "b")
        try ztunnel.answer()
        #expect(try next.answer(to: added).error == nil)
    }

    @Test func theNewestAgentWins() throws {
        let keeper = try KeeperProcess()
        let old = try keeper.agent()
        let new = try keeper.agent()
        #expect(try old.isClosed())
        #expect(try new.ask(.list).pods.isEmpty)
    }

    @Test func aListOfManyPodsComesInSeveralReplies() throws {
        let keeper = try KeeperProcess()
        let agent = try keeper.agent()
        var pods: [TestPod] = []
        for number in 0..<70 {
            let pod = try TestPod("pod-\(number)")
            #expect(try agent.add(pod).error == nil)
            pods.append(pod)
        }
        let ztunnel = try keeper.ztunnel()
        #expect(try ztunnel.takeSnapshot().count == 70)
        try eventually("all are served") { try agent.states().values.allSatisfy { $0 == .served } }
        #expect(Set(try agent.states().keys) == Set(pods.map(\.uid)))
    }

    @Test func removalLeavesNothing() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        let ztunnel = try keeper.ztunnel()
        try ztunnel.expect(.snapshotSent)
        try ztunnel.answer()
        #expect(try agent.ask(.list).pods.isEmpty)
        let before = try keeper.openDescriptors()

        let added = try agent.send(.addPod(agent.description(pod)), [pod.namespace.raw])
        // ztunnel keeps its copies on purpose: the keeper's word must be enough to end the listeners.
        let handed = try ztunnel.takeAddition()
        try ztunnel.answer()
        #expect(try agent.answer(to: added).error == nil)
        #expect(try keeper.openDescriptors() > before)
        let removed = try agent.send(.removePod(uid: "a", drain: true))
        try ztunnel.expect(.delete(uid: "a"))
        #expect(try pod.listeningPorts().count == 3)
        try ztunnel.answer()
        #expect(try agent.answer(to: removed).error == nil)

        #expect(try pod.listeningPorts().isEmpty)
        #expect(throws: SystemError.self) { _ = try pod.connect("127.0.0.1:15001") }
        let stock = SeqpacketSocket(owning: try copy(of: handed.descriptor(.stock)))
        let stockIsEmptyAndAtItsEnd = try ends(stock)
        #expect(stockIsEmptyAndAtItsEnd)
        #expect(try keeper.openDescriptors() == before)
        _ = consume handed
        try eventually("no socket is left in the pod") { try pod.socketsInUse() == 0 }
        #expect(try agent.ask(.removePod(uid: "a", drain: true)).error == nil, "removing twice is no error")
        #expect(try agent.add(pod).error == nil)
    }

    @Test func removalWithoutDrainDoesNotWait() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        let ztunnel = try keeper.ztunnel()
        _ = try ztunnel.takeSnapshot()
        _ = try agent.expect("a", .served)
        #expect(try agent.ask(.removePod(uid: "a", drain: false)).error == nil)
        #expect(try pod.listeningPorts().isEmpty)
        try ztunnel.expect(.delete(uid: "a"))
        try ztunnel.answer()
    }

    @Test func aPodWithANewNamespaceGetsNewSockets() throws {
        let keeper = try KeeperProcess()
        let (before, after) = (try TestPod("a"), try TestPod("a"))
        let agent = try keeper.agent()
        _ = try agent.add(before)
        let ztunnel = try keeper.ztunnel()
        _ = try ztunnel.takeSnapshot()
        _ = try agent.expect("a", .served)
        let added = try agent.send(.addPod(agent.description(after)), [after.namespace.raw])
        try ztunnel.expect(.delete(uid: "a"))
        try ztunnel.answer()
        let handed = try ztunnel.takeAddition()
        try ztunnel.answer()
        #expect(try agent.answer(to: added).pods.map(\.netnsInode) == [after.namespace.id.inode])
        #expect(try before.listeningPorts().isEmpty)
        let client = try after.connect("127.0.0.1:15006")
        let accepted = try handed.accept(.listenerInboundPlaintext)
        #expect(Sockets.peerEndpoint(accepted.raw) == Sockets.localEndpoint(client.raw))
        _ = try agent.expect("a", .served)
    }

    @Test func aPortInUseIsSaid() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        let before = try keeper.openDescriptors()
        let squatter = try pod.listen(port: 15008)
        let error = try #require(try agent.add(pod).error)
        #expect(error.contains("15008") && error.contains("in use"), "\(error)")
        #expect(try pod.listeningPorts() == [15008])
        #expect(try keeper.openDescriptors() == before)
        close(squatter.release())
        #expect(try agent.add(pod).error == nil)
    }
}
