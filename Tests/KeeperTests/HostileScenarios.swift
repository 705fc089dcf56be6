import CLinux
import Glibc
import Handover
import LinuxNetwork
import Testing

@Suite("The keeper and those who mean no good", .serialized)
struct HostileScenarios {
    @Test func descriptorsThatAreNoPodsNamespace() throws {
        let keeper = try KeeperProcess()
        let (pod, other) = (try TestPod("a"), try TestPod("b"))
        let agent = try keeper.agent()
        let before = try keeper.openDescriptors()
        let file = try FileDescriptor.open("/dev/null", flags: O_RDONLY)
        let mount = try FileDescriptor.open("/proc/self/ns/mnt", flags: O_RDONLY)
        let home = try NetworkNamespace.current()

        func refusal(_ description: KeeperPod, _ descriptors: [CInt]) throws -> String {
            try agent.ask(.addPod(description), descriptors).error ?? "taken"
        }
        let good = agent.description(pod)
        #expect(try refusal(good, []).contains("0 descriptors"))
        #expect(try refusal(good, [pod.namespace.raw, pod.namespace.raw]).contains("2 descriptors"))
        #expect(try refusal(good, [file.raw]).contains("not a namespace file"))
        #expect(try refusal(good, [mount.raw]).contains("not a network namespace"))
        #expect(try refusal(good, [other.namespace.raw]).contains("but the request says"))
        #expect(
            try refusal(agent.description(pod, inode: home.id.inode), [home.raw])
                .contains("the node's own network namespace"))
        var long = good
        (long.uid, long.name) = (String(repeating: "u", count: 253), String(repeating: "n", count: 253))
        (long.namespace, long.serviceAccount) = (long.name, long.name)
        #expect(try refusal(long, [pod.namespace.raw]).contains("1024 is the limit"))
        #expect(try keeper.openDescriptors() == before)

        #expect(try agent.add(pod).error == nil)
        #expect(try agent.add(pod, uid: "c").error?.contains("belongs to the pod a") == true)
        #expect(Set(try agent.states().keys) == ["a"])
    }

    @Test func garbageEndsTheConnectionAndNothingElse() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        let ztunnel = try keeper.ztunnel()
        _ = try ztunnel.takeSnapshot()
        _ = try agent.expect("a", .served)
        let before = try keeper.openDescriptors()
        let null = try FileDescriptor.open("/dev/null", flags: O_RDONLY)
        let garbage: [(bytes: [UInt8], descriptors: [CInt])] = [
            ([0xff, 0xff, 0xff], []), ([0x00], []), (Array(repeating: 0x41, count: 60_000), []),
            ([0x0a, 0xff, 0x7f], [null.raw]), (Array("GET / HTTP/1.1\r\n\r\n".utf8), []),
            ([0x08, 0x01], Array(repeating: null.raw, count: 200)),
        ]
        for path in [keeper.keeperSocket, keeper.ztunnelSocket] {
            for (bytes, descriptors) in garbage {
                let socket = try SeqpacketSocket.connect(path: path)
                try socket.send(bytes, descriptors: descriptors)
                let end = try ends(socket)
                #expect(end, "\(path) \(bytes.prefix(4))")
            }
        }
        // A request of the right form in the wrong place.
        let early = try TestAgent(keeper.keeperSocket)
        _ = try early.send(.list)
        #expect(try early.isClosed())
        try eventually("nothing is left of them") { try keeper.openDescriptors() == before }
        #expect(try agent.states() == ["a": .served])
        #expect(!keeper.child.hasEnded())
    }

    @Test func anAnswerOutOfTurnEndsZtunnelsConnection() throws {
        let keeper = try KeeperProcess()
        let ztunnel = try keeper.ztunnel()
        _ = try ztunnel.takeSnapshot()
        try ztunnel.answer()
        #expect(try ztunnel.isTurnedAway())
        try keeper.says("answered what it was not asked")
        #expect(try keeper.ztunnel().takeSnapshot().isEmpty)
    }

    @Test func aZtunnelThatMakesItsCopyBlockingHoldsNobodyUp() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        let ztunnel = try keeper.ztunnel()
        let handed = try #require(try ztunnel.takeSnapshot()["a"])
        // The flag belongs to the socket, not to the copy.
        #expect(apus_fcntl(try handed.descriptor(.stock), F_SETFL, 0) == 0)
        #expect(try agent.ask(.removePod(uid: "a", drain: false)).error == nil)
        #expect(try agent.ask(.list).pods.isEmpty)
    }

    @Test func whatAZtunnelHasShutDownIsMadeAgainForTheNext() throws {
        let keeper = try KeeperProcess()
        let pod = try TestPod("a")
        let agent = try keeper.agent()
        _ = try agent.add(pod)
        var old: TestZtunnel? = try keeper.ztunnel()
        let broken = try #require(try old?.takeSnapshot()["a"])
        shutdown(try broken.descriptor(.listenerHBONE), CInt(SHUT_RD))
        shutdown(try broken.descriptor(.stock), CInt(SHUT_RDWR))
        try keeper.says("has shut a pod's stock down")
        #expect(try pod.listeningPorts() == [15001, 15006])
        old = nil
        _ = try agent.expect("a", .waiting)

        let handed = try #require(try keeper.ztunnel().takeSnapshot()["a"])
        #expect(try pod.listeningPorts() == [15001, 15006, 15008])
        let client = try pod.connect("127.0.0.1:15008")
        let accepted = try handed.accept(.listenerHBONE)
        #expect(Sockets.peerEndpoint(accepted.raw) == Sockets.localEndpoint(client.raw))
        let taken = try handed.takeFromStock()
        #expect(!taken.isEmpty)
        for (_, socket) in taken { close(socket) }
    }

    @Test func silentPeersDoNotPileUp() throws {
        let keeper = try KeeperProcess()
        let silent = try (0..<4).map { _ in try TestZtunnel(keeper.ztunnelSocket) }
        let fifth = try TestZtunnel(keeper.ztunnelSocket)
        #expect(try fifth.isTurnedAway())
        try keeper.says("too many connections")
        #expect(try keeper.agent().ask(.list).error == nil, "they do not stand in the agent's way")
        #expect(try silent[0].isTurnedAway(), "no hello for 5 s")
        try eventually("the next is let in") {
            let ztunnel = try keeper.ztunnel()
            return try ztunnel.next().request == .snapshotSent
        }
    }

    @Test func anotherUserIsTurnedAway() throws {
        let keeper = try KeeperProcess(ztunnelUID: 15000)
        let program = """
            import socket, sys
            for path in sys.argv[1:]:
                s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                s.settimeout(10)
                try:
                    s.connect(path)
                    print("end" if s.recv(100) == b"" else "served")
                except OSError as error:
                    print(error.strerror)
            """
        func connect(as uid: Int) throws -> [Substring] {
            try run(
                "setpriv", "--reuid", "\(uid)", "--regid", "\(uid)", "--clear-groups", "/usr/bin/python3", "-c",
                program,
                keeper.keeperSocket, keeper.ztunnelSocket, in: keeper.directory
            ).split(separator: "\n")
        }
        #expect(try connect(as: 15001) == ["Permission denied", "Permission denied"])
        // And if the permissions were not there: the keeper looks who it is.
        for path in [keeper.keeperSocket, keeper.ztunnelDirectory, keeper.ztunnelSocket] { chmod(path, 0o777) }
        #expect(try connect(as: 15001) == ["end", "end"])
        #expect(try connect(as: 15000).first == "end", "ztunnel may not speak to the agent's socket")
        #expect(try TestZtunnel(keeper.ztunnelSocket).isTurnedAway(), "root is not ztunnel's user")
        try keeper.says("the peer has the wrong user")
        #expect(try keeper.agent().ask(.list).error == nil)
    }

    @Test func withoutDescriptorsTheAgentStillGetsIn() throws {
        let keeper = try KeeperProcess()
        let agent = try keeper.agent()
        let open = try keeper.descriptors()
        // The lowest free number: what the test inherited and passed on may leave gaps above it.
        let full = try #require((0...).first { open[$0] == nil })
        func spares() throws -> Int { try keeper.descriptors().values.count { $0 == "/dev/null" } }
        let before = try spares()
        func limit(to count: Int) throws {
            try run("prlimit", "--pid", "\(keeper.child.pid)", "--nofile=\(count):", in: keeper.directory)
        }
        try limit(to: full)
        // The spare descriptor lets one in; the next one waits until there is room again.
        let second = try TestAgent(keeper.keeperSocket)
        try keeper.says("cannot accept")
        try eventually("it is let in") {
            try keeper.openDescriptors() == open.count && spares() == before - 1
        }
        let third = try TestAgent(keeper.keeperSocket)
        let hello = try third.send(.hello(version: KeeperRequest.version))
        let pod = try TestPod("a")
        _ = try agent.send(.addPod(agent.description(pod)), [pod.namespace.raw])
        #expect(try agent.isClosed(), "its descriptor cannot arrive")
        try limit(to: 1024)
        #expect(try third.answer(to: hello).error == nil)
        #expect(try third.add(pod).error == nil)
        #expect(try second.isClosed(), "it never says hello")
    }
}
