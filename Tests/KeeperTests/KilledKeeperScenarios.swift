import Glibc
import Handover
import LinuxNetwork
import Testing

@Suite("A keeper that was killed, and the next one", .serialized)
struct KilledKeeperScenarios {
    /// A keeper with one pod, an agent that keeps its listeners, and a ztunnel that serves it.
    private final class Stage {
        let keeper: KeeperProcess
        let pod: TestPod
        var agent: TestAgent
        var ztunnel: TestZtunnel
        let description: KeeperPod
        let handed: HandedOver
        let kept: HandedOver

        init(dns: Bool) throws {
            keeper = try KeeperProcess()
            pod = try TestPod("a")
            agent = try keeper.agent(keeps: true)
            ztunnel = try keeper.ztunnel()
            try ztunnel.expect(.snapshotSent)
            try ztunnel.answer()
            var description = agent.description(pod)
            description.dns = dns
            self.description = description
            let id = try agent.send(.addPod(description), [pod.namespace.raw])
            handed = try ztunnel.takeAddition()
            try ztunnel.answer()
            kept = try agent.keep("a", answering: id)
        }

        /// The keeper is killed and started again; ztunnel is there before the agent.
        func replaceKeeper() throws {
            kill(keeper.child.pid, SIGKILL)
            try eventually("the keeper ends") { keeper.child.hasEnded() }
            try keeper.restart()
            ztunnel = try keeper.ztunnel(serves: 1)
            try keeper.says("a ztunnel is here")
        }

        func send(_ kinds: [HandoverDescriptor], _ descriptors: [CInt]) throws -> UInt64 {
            try agent.send(.addPod(description, listeners: kinds), [pod.namespace.raw] + descriptors)
        }
    }

    @Test("it goes on with the same listeners, and connections in their queues are served", arguments: [false, true])
    func sameListeners(dns: Bool) throws {
        let stage = try Stage(dns: dns)
        let listeners = Array(zip(stage.handed.kinds, stage.handed.descriptors)).filter {
            $0.0 != .stock && $0.0 != .stockDatagram
        }
        #expect(stage.kept.kinds == listeners.map(\.0))
        #expect(stage.kept.descriptors.map { inode($0) } == listeners.map { inode($0.1) })
        let waiting = try stage.pod.connect("127.0.0.1:15001")
        try stage.replaceKeeper()
        let later = try stage.pod.connect("127.0.0.1:15001")
        stage.agent = try stage.keeper.agent(keeps: true)
        let id = try stage.send(stage.kept.kinds, stage.kept.descriptors)
        // Were the snapshot not held back until the agent has named its pods, its end would come first.
        let again = try stage.ztunnel.takeAddition()
        try stage.ztunnel.answer()
        #expect(again.kinds == stage.handed.kinds)
        for (kind, descriptor) in listeners where kind != .listenerDNSUDP && kind != .listenerDNSTCP {
            #expect(inode(try again.descriptor(kind)) == inode(descriptor))
        }
        #expect(try stage.agent.keep("a", answering: id).kinds == stage.kept.kinds)
        let named = try stage.agent.send(.named)
        try stage.ztunnel.expect(.snapshotSent)
        try stage.ztunnel.answer()
        #expect(try stage.agent.answer(to: named).error == nil)
        for client in [waiting.raw, later.raw] {
            let accepted = try again.accept(.listenerOutbound)
            #expect(Sockets.peerEndpoint(accepted.raw) == Sockets.localEndpoint(client))
        }
        #expect(try !again.takeFromStock().isEmpty)
    }

    @Test func listenersThatAreNotThePodsAreNotTaken() throws {
        let stage = try Stage(dns: false)
        let other = try TestPod("other")
        let id = try stage.agent.send(.addPod(stage.agent.description(other)), [other.namespace.raw])
        let foreign = try stage.agent.keep("other", answering: id)
        _ = try stage.ztunnel.takeAddition()
        try stage.ztunnel.answer()
        let taken = [
            ("another network namespace", foreign.kinds, foreign.descriptors),
            ("is bound to another", stage.kept.kinds, Array(stage.kept.descriptors.reversed())),
            ("not exactly one", Array(stage.kept.kinds.dropLast()), Array(stage.kept.descriptors.dropLast())),
        ]
        for (reason, kinds, descriptors) in taken {
            try stage.replaceKeeper()
            stage.agent = try stage.keeper.agent(keeps: true)
            // The ports are taken, by the very listeners that did not come.
            #expect(try stage.agent.answer(to: stage.send(kinds, descriptors)).error != nil)
            try stage.keeper.says(reason)
            #expect(Sockets.isListening(try stage.kept.descriptor(.listenerOutbound)))
        }
    }

    @Test func anAgentThatKeepsNothingEndsTheSnapshotByItsHello() throws {
        let stage = try Stage(dns: false)
        try stage.replaceKeeper()
        stage.agent = try stage.keeper.agent()
        try stage.ztunnel.expect(.snapshotSent)
    }

    @Test func aZtunnelThatServesNothingYetWaitsForNobody() throws {
        let keeper = try KeeperProcess()
        let ztunnel = try keeper.ztunnel()
        try ztunnel.expect(.snapshotSent)
    }

    @Test func whatTheAgentDoesNotNameIsOver() throws {
        let stage = try Stage(dns: false)
        try stage.replaceKeeper()
        stage.agent = try stage.keeper.agent(keeps: true)
        let named = try stage.agent.send(.named)
        try stage.ztunnel.expect(.snapshotSent)
        try stage.ztunnel.answer()
        #expect(try stage.agent.answer(to: named).error == nil)
        #expect(try stage.agent.states().isEmpty)
    }
}
