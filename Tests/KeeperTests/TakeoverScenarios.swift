import Addressing
import Glibc
import Handover
import LinuxNetwork
import Synchronization
import Testing

@Suite("A keeper takes over from another", .serialized)
struct TakeoverScenarios {
    /// A keeper with three pods, of one, two and all kinds of sockets, and a ztunnel that has them.
    private final class Stage {
        let keeper: KeeperProcess
        let pods: [TestPod]
        let agent: TestAgent
        let ztunnel: TestZtunnel
        let handed: [String: HandedOver]

        init() throws {
            keeper = try KeeperProcess()
            pods = try ["a", "b", "c"].map { try TestPod($0) }
            agent = try keeper.agent()
            ztunnel = try keeper.ztunnel()
            try ztunnel.expect(.snapshotSent)
            try ztunnel.answer()
            var handed: [String: HandedOver] = [:]
            for pod in pods {
                let id = try agent.send(.addPod(Self.description(pod, agent)), [pod.namespace.raw])
                handed[pod.uid] = try ztunnel.takeAddition()
                try ztunnel.answer()
                #expect(try agent.answer(to: id).error == nil)
                _ = try agent.expect(pod.uid, .served)
            }
            self.handed = handed
        }

        static func description(_ pod: TestPod, _ agent: TestAgent) -> KeeperPod {
            var description = agent.description(pod, dualStack: pod.uid != "b")
            description.dns = pod.uid == "c"
            description.settings.connectionLimit = pod.uid == "a" ? 7 : 0
            return description
        }

        /// What the sockets of a pod are, by the kernel's numbers.
        static func inodes(_ handed: HandedOver) -> [UInt64] { handed.descriptors.map { inode($0) } }

        /// All goes on at the old keeper, on the connections that there were.
        func expectUnchanged(_ descriptors: Int) throws {
            #expect(!keeper.child.hasEnded())
            #expect(try agent.states() == ["a": .served, "b": .served, "c": .served])
            try eventually("the old keeper has as many descriptors as before") {
                try keeper.openDescriptors() == descriptors
            }
            let late = try TestPod("late")
            let added = try agent.send(.addPod(agent.description(late)), [late.namespace.raw])
            #expect(try ztunnel.takeAddition().uid == "late")
            try ztunnel.answer()
            #expect(try agent.answer(to: added).error == nil)
            let removed = try agent.send(.removePod(uid: "late", drain: true))
            try ztunnel.expect(.delete(uid: "late"))
            try ztunnel.answer()
            #expect(try agent.answer(to: removed).error == nil)
            for pod in pods { #expect(try pod.listeningPorts().prefix(3) == [15001, 15006, 15008]) }
        }
    }

    @Test func theSuccessorHasTheSameSocketsAndNothingIsRefused() throws {
        let stage = try Stage()
        let keeper = stage.keeper
        let before = try keeper.descriptors().values.filter { $0.hasPrefix("socket:") || $0.hasPrefix("net:") }

        // New connections all the while, from threads of their own; they wait in the listeners' queues.
        let stop = Atomic<Bool>(false)
        let failures = Mutex<[String]>([])
        let made = Mutex<[String: Int]>([:])
        let threads = stage.pods.map { pod in
            let raw = pod.namespace.raw
            let uid = pod.uid
            let path = keeper.keeperSocket
            return Load {
                do {
                    let namespace = try NetworkNamespace(owning: copy(of: raw))
                    while !stop.load(ordering: .relaxed) {
                        // Seldom enough that the successor is not one stranger too many.
                        if uid == "a", made.withLock({ $0[uid, default: 0] }) % 20 == 0 {
                            _ = try SeqpacketSocket.connect(path: path, milliseconds: 1000)
                        }
                        let socket = try namespace.run { try Sockets.tcp(dualStack: false) }
                        _ = try Sockets.connect(socket.raw, to: Endpoint(.loopbackV4, 15001), dualStack: false)
                        guard ready(socket.raw, POLLOUT), Sockets.pendingError(socket.raw) == 0 else {
                            throw Complaint("refused")
                        }
                        made.withLock { $0[uid, default: 0] += 1 }
                        poll(nil, 0, 1)
                    }
                } catch {
                    failures.withLock { $0.append("\(error)") }
                }
            }
        }
        try eventually("there is load") { made.withLock { $0.values.reduce(0, +) } > 30 }
        let successor = try keeper.successor()
        #expect(try keeper.child.exitCode() == 0)
        let old = made.withLock { $0.values.reduce(0, +) }
        try eventually("the load goes on") { made.withLock { $0.values.reduce(0, +) } > old + 30 }
        stop.store(true, ordering: .relaxed)
        for thread in threads { thread.join() }
        #expect(failures.withLock { $0 } == [])
        #expect(try keeper.log.contains("another keeper has taken over"))

        // The old one's connections are told, and the new one knows everything.
        #expect(try stage.agent.isClosed())
        #expect(try stage.ztunnel.isTurnedAway())
        keeper.continues(as: successor)
        let agent = try keeper.agent()
        let ztunnel = try keeper.ztunnel(handover: ZDSHello.handoverVersion)
        var again: [String: HandedOver] = [:]
        var settings: [String: PodSettings] = [:]
        receiving: while true {
            let (request, descriptors) = try ztunnel.next()
            switch request {
            case .add(let uid, _, let kinds): again[uid] = HandedOver(uid, kinds, descriptors)
            case .update(let uid, let new): settings[uid] = new
            case .snapshotSent: break receiving
            default: throw Complaint("\(request) in a snapshot")
            }
            try ztunnel.answer()
        }
        try ztunnel.answer()
        #expect(settings == ["a": PodSettings(connectionLimit: 7)])
        for pod in stage.pods {
            let (first, second) = (try #require(stage.handed[pod.uid]), try #require(again[pod.uid]))
            #expect(first.kinds == second.kinds)
            #expect(Stage.inodes(first) == Stage.inodes(second), "the same sockets")
            var accepted = 0
            while try Sockets.accept(second.descriptor(.listenerOutbound)) != nil { accepted += 1 }
            #expect(accepted == made.withLock { $0[pod.uid] }, "every connection is in the queue")
            _ = try agent.expect(pod.uid, .served)
        }
        // Nothing is lost, nothing is left over; and the stock is still filled.
        let after = try keeper.descriptors().values.filter { $0.hasPrefix("socket:") || $0.hasPrefix("net:") }
        let kept = Set(before).intersection(after)
        // All but the two connections are the same objects.
        #expect(kept.count == Set(before).count - 2)
        #expect(after.count == before.count)
        for _ in 0..<20 {
            for (_, socket) in try #require(again["a"]).takeFromStock() { close(socket) }
        }
        let removed = try agent.send(.removePod(uid: "a", drain: true))
        try ztunnel.expect(.delete(uid: "a"))
        try ztunnel.answer()
        #expect(try agent.answer(to: removed).error == nil)
        #expect(try stage.pods[0].listeningPorts().isEmpty)
        // The same again: a successor has a successor.
        let third = try keeper.successor()
        #expect(try successor.exitCode() == 0)
        keeper.continues(as: third)
        #expect(try keeper.agent().states() == ["b": .waiting, "c": .waiting])
    }

    /// The reply, three pods, the listeners.
    static let steps: [TakeoverRelay.Step] =
        (0...4).map { .message($0) } + (1...4).map { .answer($0) }

    @Test(arguments: steps)
    func aSuccessorThatIsKilledChangesNothing(at step: TakeoverRelay.Step) throws {
        let stage = try Stage()
        let descriptors = try stage.keeper.openDescriptors()
        let relay = try TakeoverRelay()
        let successor = try stage.keeper.successor(in: relay.directory.path)
        // Asked in the middle, answered when it is decided.
        var asked: UInt64?
        try relay.run(stage.keeper) { now, _, _ in
            guard now == step else { return .pass }
            asked = try stage.agent.send(.list)
            kill(successor.pid, SIGKILL)
            _ = try successor.exitCode()
            return .end
        }
        #expect(try stage.agent.answer(to: try #require(asked)).pods.count == 3)
        try stage.expectUnchanged(descriptors)
        try stage.keeper.says("the takeover has failed")
    }

    @Test(arguments: steps)
    func whenTheOldOneIsKilledTheSuccessorGoesOnWithWhatItHas(at step: TakeoverRelay.Step) throws {
        let stage = try Stage()
        let relay = try TakeoverRelay()
        let successor = try stage.keeper.successor(in: relay.directory.path)
        var sent: Set<String> = []
        try relay.run(stage.keeper) { now, message, _ in
            if now == step {
                relay.stopListening()
                kill(stage.keeper.child.pid, SIGKILL)
                _ = try stage.keeper.child.exitCode()
                return .end
            }
            if case .handed(let pod) = message?.content { sent.insert(pod.pod.uid) }
            return .pass
        }
        let log = { try text(of: stage.keeper.directory + "/log2") }
        try eventually("the successor serves") { try log().contains("ready") || successor.hasEnded() }
        // With its last answer it became the keeper, at the other's sockets; before, it makes its own.
        let folder = step == .answer(4) ? stage.keeper.directory : relay.directory.path
        let agent = try TestAgent(folder + "/keeper.sock")
        #expect(try agent.ask(.hello(version: KeeperRequest.version)).error == nil)
        #expect(Set(try agent.states().keys) == sent)
        let ztunnel = try TestZtunnel(folder + "/ztunnel/ztunnel.sock")
        try ztunnel.socket.send(ZDSHello(handover: 1).encoded())
        for (uid, handed) in try ztunnel.takeSnapshot() {
            let before = try #require(stage.handed[uid])
            #expect(Stage.inodes(handed) == Stage.inodes(before))
        }
        // What was not handed over is with ztunnel still, whose listeners go on.
        for pod in stage.pods where !sent.contains(pod.uid) {
            _ = try pod.connect("127.0.0.1:15008")
            #expect(try agent.ask(.addPod(Stage.description(pod, agent)), [pod.namespace.raw]).error != nil)
        }
    }

    @Test(arguments: [
        "another network namespace", "the mark", "is not transparent", "bound to another", "does not listen",
        "no socket of that kind", "no SEQPACKET socket", "not a network namespace", "descriptors are announced",
        "the namespace is",
    ])
    func aDescriptorThatIsNotWhatItShouldBeIsRefused(because reason: String) throws {
        let stage = try Stage()
        let relay = try TakeoverRelay()
        let successor = try stage.keeper.successor(in: relay.directory.path)
        let pod = stage.pods[0]
        func foreign(
            port: UInt16 = 15001, mark: UInt32 = Mark.ztunnel, transparent: Bool = true, listens: Bool = true,
            in namespace: borrowing NetworkNamespace
        ) throws -> FileDescriptor {
            try namespace.run {
                let socket = try Sockets.tcp(dualStack: true)
                try Sockets.setReusePort(socket.raw)
                if transparent { try Sockets.setTransparent(socket.raw) }
                try Sockets.setMark(socket.raw, mark)
                try Sockets.bind(socket.raw, to: Endpoint(.anyV6, port), dualStack: true)
                if listens { try Sockets.listen(socket.raw, backlog: 1) }
                return FileDescriptor(owning: socket.release())
            }
        }
        try relay.run(stage.keeper) { _, message, descriptors in
            guard case .handed(let kept) = message?.content, kept.pod.uid == "a" else { return .pass }
            // Where nobody else has the ports: the checks before this one must hold.
            let elsewhere = try NetworkNamespace.make()
            var wrong = descriptors
            let other: FileDescriptor
            switch reason {
            case "another network namespace": other = try foreign(in: elsewhere)
            case "bound to another": other = try foreign(port: 15002, in: elsewhere)
            case "does not listen": other = try foreign(listens: false, in: elsewhere)
            case "no socket of that kind":
                other = FileDescriptor(owning: try Sockets.udp(dualStack: true).release())
            case "not a network namespace":
                wrong[0] = try FileDescriptor.open("/proc/self/ns/mnt", flags: O_RDONLY).release()
                return .replace(wrong)
            case "the namespace is":
                wrong[0] = try copy(of: stage.pods[1].namespace.raw).release()
                return .replace(wrong)
            case "no SEQPACKET socket":
                wrong[4] = try copy(of: descriptors[1]).release()
                return .replace(wrong)
            case "descriptors are announced": return .replace(Array(descriptors.dropLast()))
            default:
                // The pod's own listener, changed: all copies share it.
                if reason == "the mark" {
                    try Sockets.setMark(descriptors[1], 0x123)
                } else {
                    var off: CInt = 0
                    setsockopt(descriptors[1], CInt(IPPROTO_IP), 19, &off, 4)
                }
                return .pass
            }
            wrong[1] = other.release()
            return .replace(wrong)
        }
        #expect(try stage.keeper.child.exitCode() == 0)
        #expect(!successor.hasEnded())
        let log = try text(of: stage.keeper.directory + "/log2")
        #expect(log.contains("a pod is not taken") && log.contains(reason), "\(log)")
        // Served at the old one's sockets, which came with the last message; the pod is made anew.
        stage.keeper.continues(as: successor)
        let agent = try stage.keeper.agent()
        #expect(Set(try agent.states().keys) == ["b", "c"])
        #expect(try pod.listeningPorts().isEmpty)
        #expect(try agent.add(pod).error == nil)
        #expect(try pod.listeningPorts() == [15001, 15006, 15008])
    }

    @Test func aVersionThatIsNotKnownIsRefusedOnBothSides() throws {
        let stage = try Stage()
        let later = try TestAgent(stage.keeper.keeperSocket)
        #expect(try later.ask(.takeover(version: 99)).error == "this keeper hands over in version 1, not 99")
        #expect(try stage.agent.states().count == 3)

        // A keeper of before the takeover hangs up on what it does not know; here, one that refuses.
        let directory = try Scratch()
        let listener = try SeqpacketSocket.listen(path: directory.file("keeper.sock"), mode: 0o600)
        let successor = try stage.keeper.successor(in: directory.path)
        try #require(ready(listener.raw, POLLIN))
        guard let old = try listener.accept() else { throw Complaint("no successor") }
        try #require(ready(old.raw, POLLIN))
        let refusal = KeeperReply(id: 1, error: "this keeper hands over in version 2, not 1")
        try old.send(KeeperMessage(.reply(refusal)).encoded())
        #expect(try successor.exitCode() == 1)
        let log = try text(of: successor.output)
        #expect(log.contains("the running keeper goes on") && log.contains("in version 2, not 1"))
    }

    @Test func oneSuccessorAtATimeAndOneThatSaysNothingIsLeft() throws {
        let stage = try Stage()
        let descriptors = try stage.keeper.openDescriptors()
        let silent = try TestAgent(stage.keeper.keeperSocket)
        let another = try TestAgent(stage.keeper.keeperSocket)
        #expect(try silent.ask(.takeover(version: 1)).error == nil)
        let second = try another.send(.takeover(version: 1))
        let asked = try stage.agent.send(.list)
        // It waited like everybody, and is the next one; it goes away.
        #expect(try another.answer(to: second).error == nil)
        try stage.keeper.says("no answer from the successor")
        another.hangUp()
        #expect(try stage.agent.answer(to: asked).pods.count == 3)
        try stage.expectUnchanged(descriptors)
    }

    @Test func withoutAKeeperItStartsAsAlways() throws {
        let keeper = try KeeperProcess()
        kill(keeper.child.pid, SIGKILL)
        _ = try keeper.child.exitCode()
        let successor = try keeper.successor()
        try eventually("it is ready") { try text(of: successor.output).contains("ready") }
        #expect(try text(of: successor.output).contains("no keeper to take over from"))
        keeper.continues(as: successor)
        #expect(try keeper.agent().ask(.list).error == nil)
    }

    @Test func anAnswerThatIsOnItsWayWhenTheSuccessorEndsCounts() throws {
        let stage = try Stage()
        do {
            let successor = try TestAgent(stage.keeper.keeperSocket)
            #expect(try successor.ask(.takeover(version: 1)).error == nil)
            for _ in 0..<4 {
                var buffer = [UInt8](repeating: 0, count: KeeperMessage.maximumLength)
                try #require(ready(successor.socket.raw, POLLIN))
                for descriptor in try receivePacket(successor.socket.raw, &buffer).descriptors { close(descriptor) }
                _ = try successor.send(.taken(error: ""))
            }
        }
        #expect(try stage.keeper.child.exitCode() == 0, "it is not the keeper any more")
        // Whom ztunnel serves it still serves.
        _ = try stage.pods[0].connect("127.0.0.1:15001")
    }
}

/// A thread with one thing to do.
private final class Load {
    private var thread = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(Box(body))
        pthread_create(
            &thread, nil,
            { raw in
                let box = Unmanaged<Box>.fromOpaque(raw!).takeRetainedValue()
                box.body()
                return nil
            }, box.toOpaque())
    }

    func join() { pthread_join(thread, nil) }

    private final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}
