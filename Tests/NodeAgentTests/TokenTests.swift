import Glibc
import Handover
import LinuxNetwork
import Logging
import Synchronization
import TestSupport
import Testing

@testable import NodeAgent

@Suite("The node's token", .serialized)
struct TokenTests {
    private static let quiet = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

    /// A controller that gives the replies in order, the last one for good.
    private static func controller(_ path: String, _ replies: [TokenReply]) throws -> EventLoopThread<Controller> {
        try EventLoopThread(name: "test-controller") { loop in
            try Controller(loop, SeqpacketSocket.listen(path: path, mode: 0o600), replies)
        }
    }

    final class Controller: EventHandler {
        let listener: SeqpacketSocket
        var replies: [TokenReply]

        init(_ loop: EventLoop, _ listener: consuming SeqpacketSocket, _ replies: [TokenReply]) throws {
            self.listener = listener
            self.replies = replies
            _ = try loop.register(self.listener.raw, .read, self)
        }

        func ready(_ events: ReadyEvents) {
            do {
                guard let peer = try listener.accept(), try peer.waitReadable(milliseconds: 5000),
                    let packet = try peer.receive(limit: 4096)
                else { return }
                let request = try TokenRequest(decoding: packet.bytes)
                var reply = replies.count > 1 ? replies.removeFirst() : replies[0]
                reply.token += request.node
                try peer.send(reply.encoded())
            } catch {
                Issue.record("\(error)")
            }
        }
    }

    private static func reply(_ token: String, life: Int) -> TokenReply {
        TokenReply(token: token, rootPEM: "roots of \(token)", expiresAt: Int64(time(nil) + life))
    }

    @Test("token and roots are there for one user alone, and renewed at half life")
    func renew() async throws {
        let folder = try TemporaryFolder()
        let socket = folder.path + "/token.sock"
        let uid: uid_t = 15_000
        let renewer = try TokenRenewer(
            socketPath: socket, nodeName: "n1", folder: folder.path + "/run/ztunnel", owner: uid, log: Self.quiet)
        let first = Atomic<Int>(0)
        let task = Task { await renewer.run { first.wrappingAdd(1, ordering: .relaxed) } }
        // The controller comes late, refuses once, and gives tokens that live for two seconds.
        let thread = try Self.controller(
            socket, [TokenReply(error: "not now"), Self.reply("one-", life: 2), Self.reply("two-", life: 3600)])
        func text(_ name: String) throws -> String? {
            try AtomicFile.read(folder.path + "/run/ztunnel/" + name).map { String(decoding: $0, as: UTF8.self) }
        }
        try await eventually("the first token") { try text("token") == "one-n1" }
        #expect(try text("root-cert.pem") == "roots of one-")
        for name in ["token", "root-cert.pem"] {
            var info = stat()
            #expect(lstat(folder.path + "/run/ztunnel/" + name, &info) == 0)
            #expect(info.st_mode & 0o7777 == 0o400)
            #expect(info.st_uid == uid && info.st_gid == uid)
        }
        var info = stat()
        #expect(lstat(folder.path + "/run/ztunnel", &info) == 0 && info.st_mode & 0o7777 == 0o700)
        #expect(info.st_uid == uid)
        try await eventually("the second token") { try text("token") == "two-n1" }
        #expect(first.load(ordering: .relaxed) == 1)
        task.cancel()
        await task.value
        thread.stop()
    }

    @Test("a link that ztunnel's user lays does not lead root elsewhere")
    func links() async throws {
        let folder = try TemporaryFolder()
        let secret = folder.path + "/secret"
        try AtomicFile.write([1, 2, 3], to: secret, mode: 0o600)
        try AtomicFile.makeFolder(folder.path + "/ztunnel", mode: 0o700)
        for name in ["token", ".token.new", "root-cert.pem"] {
            #expect(symlink(secret, folder.path + "/ztunnel/" + name) == 0)
        }
        let socket = folder.path + "/token.sock"
        let thread = try Self.controller(socket, [Self.reply("t-", life: 3600)])
        let renewer = try TokenRenewer(
            socketPath: socket, nodeName: "n1", folder: folder.path + "/ztunnel", owner: 15_000, log: Self.quiet)
        #expect(try await renewer.renew() > .seconds(3000))
        #expect(try AtomicFile.read(secret) == [1, 2, 3])
        var info = stat()
        #expect(lstat(secret, &info) == 0 && info.st_uid == 0)
        #expect(lstat(folder.path + "/ztunnel/token", &info) == 0 && info.st_mode & S_IFMT == S_IFREG)
        thread.stop()
    }
}
