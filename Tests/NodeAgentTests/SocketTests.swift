import Glibc
import Handover
import LinuxNetwork
import Logging
import Synchronization
import TestSupport
import Testing

@testable import NodeAgent

@Suite("cni.sock and keeper.sock", .serialized)
struct SocketTests {
    private static let quiet = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

    /// Sends one packet and takes the answer; `nil` when the other side closes.
    private static func ask(
        _ path: String, _ bytes: [UInt8], _ descriptors: [CInt] = [], raise: Bool = false
    ) throws -> CNIReply? {
        let socket = try SeqpacketSocket.connect(path: path)
        if raise { Sockets.setSendBuffer(socket.raw, 4 << 20) }
        try socket.send(bytes, descriptors: descriptors)
        return try answer(socket)
    }

    private static func answer(_ socket: borrowing SeqpacketSocket) throws -> CNIReply? {
        guard try socket.waitReadable(milliseconds: 5000),
            let packet = try socket.receive(limit: CNIReply.maximumLength)
        else { throw SystemError("no answer", code: ETIMEDOUT) }
        return packet.bytes.isEmpty ? nil : try CNIReply(decoding: packet.bytes)
    }

    /// How many descriptors of this process are open for the same file as this one.
    private static func copies(of descriptor: CInt) -> Int {
        var wanted = stat()
        guard fstat(descriptor, &wanted) == 0, let directory = opendir("/proc/self/fd") else { return -1 }
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            var found = stat()
            guard let number = CInt(name), fstat(number, &found) == 0 else { continue }
            if found.st_dev == wanted.st_dev, found.st_ino == wanted.st_ino { count += 1 }
        }
        return count
    }

    @Test("good calls are answered, bad ones refused, and nothing is left of either")
    func calls() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/cni.sock"
        let seen = Mutex<[NamespaceID?]>([])
        let server = try CNIServer(path: path, log: Self.quiet) { call in
            let id: NamespaceID? = if case .success(let namespace) = call.namespace { namespace.id } else { nil }
            seen.withLock { $0.append(id) }
            return CNIReply(code: 7, message: call.request.containerID)
        }
        var info = stat()
        #expect(lstat(path, &info) == 0 && info.st_mode & 0o777 == 0o600)
        let pod = try FakePod()
        let good = CNIRequest(verb: .add, containerID: "c1", interfaceName: "eth0").encoded()

        #expect(try Self.ask(path, good, [pod.namespace.value.raw])?.message == "c1")
        #expect(seen.withLock { $0 } == [pod.namespace.id])
        // No namespace, and something that is none.
        #expect(try Self.ask(path, good)?.code == 7)
        try AtomicFile.write([], to: folder.path + "/file", mode: 0o600)
        let file = try FileDescriptor.open(folder.path + "/file", flags: O_RDONLY)
        #expect(try Self.ask(path, good, [file.raw])?.code == 7)
        #expect(seen.withLock { $0 }.count == 3)

        #expect(try Self.ask(path, good, [file.raw, file.raw])?.code == 4)
        #expect(try Self.ask(path, good, Array(repeating: file.raw, count: 200))?.code == 4)
        #expect(try Self.ask(path, [0xff, 0xff, 0xff])?.code == 4)
        #expect(try Self.ask(path, [0])?.code == 4)
        #expect(try Self.ask(path, Array(repeating: 0, count: 2 << 20), raise: true)?.code == 4)
        // Closed before a word is said.
        _ = try SeqpacketSocket.connect(path: path)
        #expect(seen.withLock { $0 }.count == 3)

        let large = CNIRequest(
            verb: .gc, networkName: "n",
            validAttachments: (0..<10_000).map { .init(containerID: "container-\($0)", interfaceName: "eth0") })
        #expect(try Self.ask(path, large.encoded(), raise: true)?.code == 7)
        let (kept, namespace) = (file.raw, pod.namespace.value.raw)
        try await eventually("what was sent is closed") {
            Self.copies(of: kept) == 1 && Self.copies(of: namespace) == 1
        }
        server.close()
        #expect(access(path, F_OK) != 0)
    }

    @Test("more calls than there is room for are told to come again")
    func limit() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/cni.sock"
        let (gate, open) = AsyncStream.makeStream(of: Void.self)
        let inside = Atomic<Int>(0)
        let server = try CNIServer(path: path, log: Self.quiet) { _ in
            inside.wrappingAdd(1, ordering: .relaxed)
            for await _ in gate {}
            return CNIReply()
        }
        let request = CNIRequest(verb: .status).encoded()
        let waiting = try (0..<CNIServer.mostCalls).map { _ in
            let socket = try SeqpacketSocket.connect(path: path)
            try socket.send(request)
            return try socket.descriptor.duplicate().release()
        }
        try await eventually("all are in") { inside.load(ordering: .relaxed) == CNIServer.mostCalls }
        let extra = try SeqpacketSocket.connect(path: path)
        let refusal = try Self.answer(extra)
        #expect(refusal?.code == 11)
        open.finish()
        for descriptor in waiting {
            let socket = SeqpacketSocket(owning: FileDescriptor(owning: descriptor))
            let reply = try Self.answer(socket)
            #expect(reply?.code == 0)
        }
        server.close()
    }

    // MARK: The keeper

    /// The keeper's end, played packet by packet.
    private final class Scripted: Sendable {
        let listener: SeqpacketSocket

        init(_ path: String) throws { listener = try SeqpacketSocket.listen(path: path, mode: 0o600) }

        func accept() async throws -> Peer {
            var found: SeqpacketSocket?
            try await eventually("the client connects") {
                found = try listener.accept()
                return found != nil
            }
            guard let socket = found.take() else { throw SystemError("accept", code: ETIMEDOUT) }
            return Peer(socket)
        }

        final class Peer: Sendable {
            let socket: SeqpacketSocket
            init(_ socket: consuming SeqpacketSocket) { self.socket = socket }

            func request() async throws -> (request: KeeperRequest, descriptors: Int) {
                var bytes: [UInt8] = []
                var descriptors = 0
                try await eventually("a request") {
                    guard let packet = try socket.receive(limit: KeeperRequest.maximumLength) else { return false }
                    bytes = packet.bytes
                    descriptors = packet.descriptors.count
                    return true
                }
                return (try KeeperRequest(decoding: bytes), descriptors)
            }

            func send(_ content: KeeperMessage.Content) throws { try socket.send(KeeperMessage(content).encoded()) }

            func greet() async throws {
                let hello = try await request().request
                #expect(hello.command == .hello(version: KeeperRequest.version, keeps: true))
                try send(.reply(KeeperReply(id: hello.id)))
            }
        }
    }

    private static func status(_ uid: String) -> KeeperPodStatus {
        KeeperPodStatus(uid: uid, netnsInode: 1, name: "p", namespace: "n", serviceAccount: "s", state: .waiting)
    }

    @Test("requests, replies in parts, errors and news; a broken connection is made again")
    func keeper() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/keeper.sock"
        let client = try KeeperClient(path: path)
        var events = client.events().makeAsyncIterator()
        guard case .disconnected = await events.next() else {
            Issue.record("there is no keeper yet")
            return
        }
        // Not connected: an error at once.
        await #expect(throws: AgentError.self) { try await client.list() }

        let keeper = try Scripted(path)
        let first = try await keeper.accept()
        try await first.greet()
        #expect(await events.next() == .connected)
        let pod = try FakePod()
        let description = KeeperPod(
            uid: "u", name: "p", namespace: "n", serviceAccount: "s", netnsInode: pod.namespace.id.inode)
        async let added = client.add(description, in: pod.namespace)
        let (add, descriptors) = try await first.request()
        #expect(add.command == .addPod(description))
        #expect(descriptors == 1)
        try first.send(.podStatus(Self.status("other")))
        try first.send(.reply(KeeperReply(id: add.id, pods: [Self.status("u")])))
        #expect(try await added == Self.status("u"))
        #expect(await events.next() == .podStatus(Self.status("other")))

        async let listed = client.list()
        let list = try await first.request().request
        try first.send(.reply(KeeperReply(id: list.id, pods: [Self.status("a")], more: true)))
        try first.send(.reply(KeeperReply(id: list.id, pods: [Self.status("b")])))
        #expect(try await listed.map(\.uid) == ["a", "b"])

        let removed = Task { try await client.remove(uid: "u", drain: true) }
        let remove = try await first.request().request
        #expect(remove.command == .removePod(uid: "u", drain: true))
        try first.send(.reply(KeeperReply(id: remove.id, error: "no")))
        await #expect(throws: AgentError.self) { try await removed.value }

        // Garbage ends the connection, and what was asked on it.
        let lost = Task { try await client.list() }
        _ = try await first.request()
        try first.socket.send([0xff, 0xff, 0xff, 0xff])
        await #expect(throws: AgentError.self) { try await lost.value }
        guard case .disconnected = await events.next() else {
            Issue.record("the connection should be gone")
            return
        }
        let second = try await keeper.accept()
        try await second.greet()
        #expect(await events.next() == .connected)
        async let again = client.list()
        let request = try await second.request().request
        try second.send(.reply(KeeperReply(id: request.id)))
        #expect(try await again.isEmpty)
        client.close()
        await #expect(throws: AgentError.self) { try await client.list() }
    }
}
