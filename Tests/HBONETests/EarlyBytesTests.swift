import Addressing
import Glibc
import LinuxNetwork
import Mesh
import Testing

@testable import HBONE

@Suite("What the application has said before the answer")
struct EarlyBytesTests {
    /// An application that has sent `count` bytes already, and the end of its connection that the tunnel gets.
    private static func eager(_ count: Int, in rig: TunnelRig) throws -> (app: TestApp, inside: CInt) {
        let (inside, outside) = try TestSockets.pair()
        let app = TestApp(outside)
        app.toSend = count
        app.pump()
        rig.apps.append(app)
        return (app, inside)
    }

    /// How much a socket holds unread.
    private static func unread(_ fd: CInt) -> Int {
        withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 1) {
            max(0, recv(fd, $0.baseAddress, $0.count, CInt(MSG_PEEK) | CInt(MSG_DONTWAIT)))
        }
    }

    @Test("it goes along with the request, and the peer's application gets it once", arguments: [1, 64, 12288, 50_000])
    func goesAlong(count: Int) throws {
        let rig = try TunnelRig()
        final class Held { var stream: HBONEStream? }
        let held = Held()
        rig.serverOwner.onRequest = { stream, _ in held.stream = stream }
        let (app, inside) = try Self.eager(count, in: rig)
        let owner = StreamOwner()
        owner.onReply = { $0.relay(with: FileDescriptor(owning: inside), meter: owner) }
        rig.streams.append(
            try rig.client.open(ConnectRequest(authority: "10.0.0.1:80"), early: inside, delegate: owner))
        let early = min(count, 12288)
        try rig.run("the bytes are there before the answer") { held.stream?.backlog.count == early }
        #expect(owner.reply == nil && Self.unread(inside) == count)
        rig.answer(try #require(held.stream))
        try rig.run("the echo") { app.received == count }
        #expect(app.isIntact && rig.serverApps[0].isIntact)
        app.endsAfterSending = true
        try rig.run("the end") { owner.ends.count == 1 }
        #expect(owner.metered.to == count && owner.ends[0].toTunnel == UInt64(count))
        #expect(rig.serverStreams[0].metered.from == count)
    }

    @Test("after a refusal it is still in the application's socket, for another tunnel to carry")
    func refused() throws {
        let rig = try TunnelRig()
        rig.serverOwner.onRequest = { stream, _ in stream.reject(status: 503) }
        let (app, inside) = try Self.eager(100, in: rig)
        let first = StreamOwner()
        rig.streams.append(
            try rig.client.open(ConnectRequest(authority: "10.0.0.1:80"), early: inside, delegate: first))
        try rig.run("the refusal") { first.ends.count == 1 }
        #expect(first.error?.status == 503 && first.ends[0].toTunnel == 0)
        #expect(Self.unread(inside) == 100)
        rig.serverOwner.onRequest = { [unowned rig] stream, _ in rig.answer(stream) }
        let second = StreamOwner()
        second.onReply = { $0.relay(with: FileDescriptor(owning: inside), meter: second) }
        rig.streams.append(
            try rig.client.open(ConnectRequest(authority: "10.0.0.1:80"), early: inside, delegate: second))
        try rig.run("the echo") { app.received == 100 }
        #expect(app.isIntact && !rig.client.isClosed && !rig.server.isClosed)
    }

    @Test("an application that says nothing first is not waited for")
    func serverFirst() throws {
        let rig = try TunnelRig()
        rig.prepare = { $0.toSend = 20 }
        let (app, inside) = try Self.eager(0, in: rig)
        let owner = StreamOwner()
        owner.onReply = { $0.relay(with: FileDescriptor(owning: inside), meter: owner) }
        rig.streams.append(
            try rig.client.open(ConnectRequest(authority: "10.0.0.1:80"), early: inside, delegate: owner))
        try rig.run("the server's words") { app.received == 20 }
        #expect(app.isIntact && owner.metered.to == 0)
    }

    @Test("an application that resets after its first words: the peer's sees a reset, never half a message as a whole")
    func reset() throws {
        let rig = try TunnelRig()
        rig.prepare = { _ in }
        let (app, inside) = try Self.eager(100, in: rig)
        let owner = StreamOwner()
        owner.onReply = { stream in
            app.close(reset: true)
            stream.relay(with: FileDescriptor(owning: inside), meter: owner)
        }
        rig.streams.append(
            try rig.client.open(ConnectRequest(authority: "10.0.0.1:80"), early: inside, delegate: owner))
        try rig.run("both ends") { owner.ends.count == 1 && rig.serverApps.first?.failure != nil }
        #expect(owner.error?.code == .applicationFailed)
        #expect(rig.serverApps[0].failure == ECONNRESET)
        #expect(!rig.client.isClosed)
    }
}
