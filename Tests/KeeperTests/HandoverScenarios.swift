import CLinux
import Glibc
import Handover
import LinuxNetwork
import Testing

@Suite("The keeper keeps and hands over", .serialized)
struct HandoverScenarios {
    @Test func connectionsWaitBeforeAnyZtunnelExists() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        let reply = try agent.add(pod)
        #expect(reply.error == nil)
        #expect(reply.pods.map(\.state) == [.waiting])
        #expect(reply.pods.map(\.netnsInode) == [pod.namespace.id.inode])
        #expect(try pod.listeningPorts() == [15001, 15006, 15008])
        let client = try pod.connect("127.0.0.1:15001")
        let overIPv6 = try pod.connect("[::1]:15006")
        let toHBONE = try pod.connect("127.0.0.1:15008")
        #expect(write(client.raw, "early", 5) == 5)

        let ztunnel = try keeper.ztunnel()
        let handed = try #require(try ztunnel.takeSnapshot()["a"])
        #expect(handed.kinds == [.listenerOutbound, .listenerInboundPlaintext, .listenerHBONE, .stock])
        let accepted = try handed.accept(.listenerOutbound)
        try #require(ready(accepted.raw, POLLIN))
        var buffer = [UInt8](repeating: 0, count: 16)
        #expect(read(accepted.raw, &buffer, 16) == 5)
        #expect(integerOption(accepted.raw, SOL_SOCKET, SO_MARK) == 0x539)
        #expect(integerOption(accepted.raw, CInt(IPPROTO_TCP), TCP_NODELAY) == 1)
        let plaintext = try handed.accept(.listenerInboundPlaintext)
        #expect(Sockets.peerEndpoint(plaintext.raw) == Sockets.localEndpoint(overIPv6.raw))
        let hbone = try handed.accept(.listenerHBONE)
        #expect(Sockets.peerEndpoint(hbone.raw) == Sockets.localEndpoint(toHBONE.raw))
        #expect(try agent.expect("a", .served).error.isEmpty)
        #expect(try agent.states() == ["a": .served])
    }

    @Test func anIPv4OnlyPodGetsIPv4Sockets() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        #expect(try agent.add(pod, dualStack: false).error == nil)
        let handed = try #require(try keeper.ztunnel().takeSnapshot()["a"])
        #expect(integerOption(try handed.descriptor(.listenerHBONE), SOL_SOCKET, SO_DOMAIN) == AF_INET)
        let taken = try handed.takeFromStock()
        defer { for (_, socket) in taken { close(socket) } }
        #expect(taken.allSatisfy { $0.family == .v4 && integerOption($0.socket, SOL_SOCKET, SO_DOMAIN) == AF_INET })
    }

    @Test func stockSocketsArePreparedAndRefilledAndTheStockGrows() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        let handed = try #require(try keeper.ztunnel().takeSnapshot()["a"])
        let server = try pod.listen(port: 8080)

        // A stock found empty doubles, from 4 packets of 4 to 16 packets of 32. The keeper may be stopped while it
        // fills the stock and then finds it half empty, which is why the rounds are not counted.
        var most = 0
        try eventually("the stock grows to its bound") {
            let taken = try handed.drainStock(of: keeper)
            defer { for (_, socket) in taken { close(socket) } }
            most = max(most, taken.count)
            for (family, socket) in taken {
                #expect(family == .v6)
                #expect(integerOption(socket, SOL_SOCKET, SO_DOMAIN) == AF_INET6)
                #expect(integerOption(socket, CInt(IPPROTO_IPV6), IPV6_V6ONLY) == 0)
                #expect(integerOption(socket, SOL_SOCKET, SO_MARK) == 0x539)
                #expect(integerOption(socket, SOL_SOCKET, SO_REUSEADDR) == 0)
                #expect(integerOption(socket, SOL_SOCKET, SO_KEEPALIVE) == 1)
                #expect(integerOption(socket, CInt(IPPROTO_IP), 19) == 1, "IP_TRANSPARENT")
                #expect(integerOption(socket, CInt(IPPROTO_IPV6), 75) == 1, "IPV6_TRANSPARENT")
                #expect(integerOption(socket, CInt(IPPROTO_IP), 24) == 1, "IP_BIND_ADDRESS_NO_PORT")
                #expect(integerOption(socket, CInt(IPPROTO_TCP), TCP_NODELAY) == 1)
                #expect(integerOption(socket, CInt(IPPROTO_TCP), TCP_KEEPIDLE) == 180)
                #expect(integerOption(socket, CInt(IPPROTO_TCP), TCP_KEEPINTVL) == 180)
                #expect(integerOption(socket, CInt(IPPROTO_TCP), TCP_KEEPCNT) == 9)
                #expect(fcntl(socket, F_GETFL) & O_NONBLOCK != 0)
            }
            // One of each size reaches a server in the pod, over IPv4.
            if let socket = taken.first?.socket {
                _ = try Sockets.connect(socket, to: try #require(.init("127.0.0.1:8080")), dualStack: true)
                try #require(ready(socket, POLLOUT))
                #expect(Sockets.pendingError(socket) == 0)
                _ = try Sockets.accept(server.raw)
            }
            return most == StockGauge.most
        }
    }

    @Test func aNewZtunnelGetsTheSameSocketsAndWhatWaits() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        var old: TestZtunnel? = try keeper.ztunnel()
        var handed = try old?.takeSnapshot()["a"]
        let listener = inode(try #require(handed).descriptor(.listenerOutbound))
        let stock = inode(try #require(handed).descriptor(.stock))
        _ = try agent.expect("a", .served)

        handed = nil
        old = nil
        #expect(try agent.expect("a", .waiting).error.isEmpty)
        let client = try pod.connect("127.0.0.1:15001")

        let new = try keeper.ztunnel()
        let again = try #require(try new.takeSnapshot()["a"])
        #expect(inode(try again.descriptor(.listenerOutbound)) == listener)
        #expect(inode(try again.descriptor(.stock)) == stock)
        let accepted = try again.accept(.listenerOutbound)
        #expect(Sockets.peerEndpoint(accepted.raw) == Sockets.localEndpoint(client.raw))
        _ = try agent.expect("a", .served)
    }

    @Test func aSuccessorTakesOverWhenItHasTheSnapshot() throws {
        let keeper = try KeeperProcess()
        let (first, second) = (try TestPod("a"), try TestPod("b"))
        let agent = try keeper.agent()
        _ = try agent.add(first)
        let old = try keeper.ztunnel()
        let oldPods = try old.takeSnapshot()
        _ = try agent.expect("a", .served)

        let new = try keeper.ztunnel(successor: true)
        let handed = try new.takeAddition()
        #expect(
            inode(try handed.descriptor(.listenerHBONE)) == inode(try #require(oldPods["a"]).descriptor(.listenerHBONE))
        )
        #expect(try agent.states() == ["a": .served], "the old one's word counts until the new one has all")
        #expect(try keeper.ztunnel().isTurnedAway())
        #expect(try keeper.ztunnel(successor: true).isTurnedAway())
        try new.answer()
        try new.expect(.snapshotSent)
        try new.answer()

        // A pod that comes now is the new one's alone; one that goes is told to both.
        try keeper.says("has taken over")
        let added = try agent.send(.addPod(agent.description(second)), [second.namespace.raw])
        #expect(try new.takeAddition().uid == "b")
        try new.answer()
        #expect(try agent.answer(to: added).error == nil)
        _ = try agent.expect("b", .served)
        let removed = try agent.send(.removePod(uid: "a", drain: true))
        try old.expect(.delete(uid: "a"))
        try new.expect(.delete(uid: "a"))
        try new.answer()
        #expect(try first.listeningPorts() == [15001, 15006, 15008], "one has not let go yet")
        try old.answer()
        #expect(try agent.answer(to: removed).error == nil)
        #expect(try agent.states() == ["b": .served])
        try keeper.says("there is an active ztunnel, or a successor, already")
    }

    @Test func whenTheActiveOneDiesItsSuccessorIsActiveAtOnce() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        var old: TestZtunnel? = try keeper.ztunnel()
        _ = try old?.takeSnapshot()
        _ = try agent.expect("a", .served)
        let new = try keeper.ztunnel(successor: true)
        let handed = try new.takeAddition()
        old = nil
        _ = try agent.expect("a", .waiting)
        try new.answer()
        _ = try agent.expect("a", .served)
        #expect(handed.uid == "a")
    }

    @Test func aRefusedPodIsFailedAndAskedAboutAgain() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        let ztunnel = try keeper.ztunnel()
        try ztunnel.expect(.snapshotSent)
        try ztunnel.answer()
        #expect(try agent.add(pod).pods.map(\.state) == [.waiting])
        _ = try ztunnel.takeAddition()
        try ztunnel.answer("failure to start proxy: no memory")
        #expect(try agent.expect("a", .failed).error == "failure to start proxy: no memory")
        #expect(try agent.states() == ["a": .failed])
        let before = MonotonicClock.now
        #expect(try ztunnel.takeAddition().uid == "a")
        #expect((3_500_000_000...9_000_000_000).contains(MonotonicClock.now - before))
        try ztunnel.answer()
        _ = try agent.expect("a", .served)
    }

    @Test func aZtunnelThatDoesNotAnswerIsLeft() throws {
        let keeper = try KeeperProcess()
        let (first, second) = (try TestPod("a"), try TestPod("b"))
        let agent = try keeper.agent()
        _ = try agent.add(first)
        let ztunnel = try keeper.ztunnel()
        _ = try ztunnel.takeSnapshot()
        _ = try agent.expect("a", .served)
        _ = try agent.add(second)
        _ = try ztunnel.takeAddition()
        // It never answers about b: neither the removal of a nor the others wait for ever.
        let removed = try agent.send(.removePod(uid: "a", drain: true))
        #expect(try ztunnel.isTurnedAway())
        #expect(try agent.answer(to: removed).error == nil)
        #expect(try first.listeningPorts().isEmpty)
        #expect(try agent.states() == ["b": .waiting])
        try keeper.says("no answer from ztunnel for 5 s")
    }

    @Test func istiosZtunnelGetsTheNamespaceAndThePorts() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        var ztunnel: TestZtunnel? = try keeper.ztunnel(handover: 0)
        let handed = try #require(try ztunnel?.takeAddition())
        #expect(handed.kinds.isEmpty)
        #expect(handed.descriptors.count == 1)
        let namespace = try NetworkNamespace(owning: copy(of: handed.descriptors[0]))
        #expect(namespace.id == pod.namespace.id)
        // It binds the ports itself.
        #expect(try pod.listeningPorts().isEmpty)
        let own = try pod.listen(port: 15001).release()
        try ztunnel?.answer()
        _ = try agent.expect("a", .served)
        close(own)
        ztunnel = nil
        _ = try agent.expect("a", .waiting)
        try eventually("the keeper listens again") { try pod.listeningPorts() == [15001, 15006, 15008] }
        let new = try keeper.ztunnel()
        #expect(try new.takeSnapshot()["a"]?.kinds.count == 4)
    }
}
