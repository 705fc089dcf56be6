import Addressing
import Glibc
import LinuxNetwork
import Mesh
import TLSEngine
import Testing

@testable import HBONE

@Suite("Tunnels: beginnings and ends of connections")
struct TunnelLifeTests {
    @Test("requests wait for the connection and for the peer's limit")
    func waiting() throws {
        var settings = HBONESettings.server
        settings.maximumStreams = 3
        let rig = try TunnelRig(server: settings)
        rig.prepare = { _ in }
        var owners: [StreamOwner] = []
        for _ in 0..<5 { owners.append(try rig.openTunnel().owner) }
        #expect(rig.client.streamCount == 5 && rig.client.canOpen)
        try rig.run("three are answered") { owners.count { $0.reply != nil } == 3 }
        try rig.settle()
        #expect(rig.serverOwner.requests.count == 3)
        #expect(rig.client.streamLimit == 3)
        for app in rig.serverApps + rig.apps.prefix(3) { app.endsAfterSending = true }
        try rig.run("the others too") { owners.allSatisfy { $0.reply?.status == 200 } }
        #expect(owners.count { $0.ends.count == 1 } == 3)
    }

    @Test("the queue of requests is bounded")
    func bounded() throws {
        var settings = HBONESettings.client
        settings.maximumWaitingRequests = 2
        let rig = try TunnelRig(client: settings)
        _ = try rig.openTunnel()
        _ = try rig.openTunnel()
        #expect(!rig.client.canOpen)
        let error = #expect(throws: HBONEError.self) { try rig.openTunnel() }
        #expect(error?.code == .tooManyRequests)
        let bad = #expect(throws: HBONEError.self) {
            try rig.client.open(ConnectRequest(authority: "a\r\nb"), delegate: StreamOwner())
        }
        #expect(bad?.code == .tooManyRequests)
    }

    @Test("a request and its answer keep their headers")
    func headers() throws {
        let rig = try TunnelRig()
        rig.serverOwner.onRequest = { stream, _ in
            stream.accept(headers: [HeaderField("baggage", "x=y")], delegate: StreamOwner())
        }
        let request = ConnectRequest(
            authority: "[fd00::1]:80", baggage: "a=b", forwarded: "for=\"1.2.3.4:5\"", traceparent: "00-1-2-00")
        let owner = StreamOwner()
        rig.streams.append(try rig.client.open(request, delegate: owner))
        try rig.run("the answer") { owner.reply != nil }
        #expect(rig.serverOwner.requests == [request])
        #expect(owner.reply?.header("baggage") == "x=y")
    }

    @Test("a refusal ends the stream and nothing else", arguments: [400, 401, 503])
    func refusal(status: Int) throws {
        let rig = try TunnelRig()
        rig.serverOwner.onRequest = { stream, _ in stream.reject(status: status) }
        let (app, owner) = try rig.openTunnel()
        try rig.run("the refusal") { owner.ends.count == 1 }
        #expect(owner.reply?.status == status)
        #expect(owner.error?.code == .rejected && owner.error?.status == status)
        try rig.settle()
        #expect(rig.server.streamCount == 0 && rig.client.streamCount == 0)
        #expect(!rig.client.isClosed && app.failure == nil)
        rig.serverOwner.onRequest = { [unowned rig] stream, _ in rig.answer(stream) }
        let (next, _) = try rig.openTunnel()
        next.toSend = 10
        try rig.run("the next works") { next.received == 10 }
    }

    @Test("an answer that does not come in time")
    func replyDeadline() throws {
        let rig = try TunnelRig()
        final class Held { var stream: HBONEStream? }
        let held = Held()
        let owner = StreamOwner()
        rig.serverOwner.onRequest = { stream, _ in
            stream.delegate = owner
            held.stream = stream
        }
        let (_, client) = try rig.openTunnel(deadline: .milliseconds(50))
        try rig.run("the deadline") { client.ends.count == 1 }
        #expect(client.error?.code == .replyTimedOut)
        // The server hears of it, and an answer then goes nowhere.
        try rig.run("the server hears") { owner.ends.count == 1 }
        #expect(owner.error?.code == .streamReset)
        #expect(held.stream?.accept(delegate: owner) == false)
        #expect(owner.ends.count == 1)
    }

    @Test("drained by the server: open streams finish, new requests are told to go elsewhere")
    func serverDrains() throws {
        let rig = try TunnelRig()
        let (app, owner) = try rig.openTunnel()
        app.toSend = 1000
        try rig.run("the stream works") { app.received == 1000 }
        rig.server.drain()
        try rig.run("the client knows") { !rig.client.canOpen }
        let error = #expect(throws: HBONEError.self) { try rig.openTunnel() }
        #expect(error?.code == .goingAway)
        app.toSend = 2_000_000
        app.endsAfterSending = true
        try rig.run("the stream finishes") { owner.ends.count == 1 && app.sawEnd }
        #expect(app.received == 2_001_000 && owner.error == nil)
        try rig.run("both close") { rig.clientOwner.closed == 1 && rig.serverOwner.closed == 1 }
        #expect(rig.clientOwner.error == nil && rig.serverOwner.error == nil)
    }

    @Test("drained by the client: open streams finish, then it closes")
    func clientDrains() throws {
        let rig = try TunnelRig()
        let (app, owner) = try rig.openTunnel()
        app.toSend = 1000
        try rig.run("the stream works") { app.received == 1000 }
        rig.client.drain()
        #expect(!rig.client.canOpen && rig.client.isDraining)
        app.endsAfterSending = true
        try rig.run("both close") { rig.clientOwner.closed == 1 && rig.serverOwner.closed == 1 }
        #expect(owner.ends.count == 1 && owner.error == nil)
        #expect(rig.clientOwner.error == nil && rig.serverOwner.error == nil)
    }

    @Test("drained by the client before the handshake is over: what waits for it is carried, then it closes")
    func clientDrainsInHandshake() throws {
        let rig = try TunnelRig()
        let (app, owner) = try rig.openTunnel()
        rig.client.drain()
        #expect(!rig.client.canOpen && owner.ends.isEmpty)
        app.toSend = 1000
        app.endsAfterSending = true
        try rig.run("both close") { rig.clientOwner.closed == 1 && rig.serverOwner.closed == 1 }
        #expect(rig.serverApps[0].received == 1000)
        #expect(owner.ends.count == 1 && owner.error == nil)
        #expect(rig.clientOwner.error == nil && rig.serverOwner.error == nil)
    }

    @Test("a client that closes when its streams are over does not cut off a slow application of the server")
    func slowDelivery() throws {
        let rig = try TunnelRig()
        rig.prepare = {
            $0.appetite = 0
            $0.endsAfterSending = true
        }
        let (app, owner) = try rig.openTunnel()
        app.toSend = 3_900_000
        app.endsAfterSending = true
        try rig.run("the client's stream is over") { owner.ends.count == 1 }
        rig.client.drain()
        try rig.run("both connections close") { rig.clientOwner.closed == 1 && rig.serverOwner.closed == 1 }
        rig.serverApps[0].appetite = .max
        try rig.run("the rest is delivered") { rig.serverApps[0].sawEnd && rig.serverStreams[0].ends.count == 1 }
        #expect(rig.serverApps[0].received == 3_900_000 && rig.serverApps[0].isIntact)
        #expect(rig.serverStreams[0].error == nil)
    }

    @Test("closed at once: streams end, applications see a reset, the peer too")
    func closes() throws {
        let rig = try TunnelRig()
        let (app, owner) = try rig.openTunnel()
        app.toSend = 1000
        try rig.run("the stream works") { app.received == 1000 }
        rig.client.close()
        #expect(owner.ends.count == 1 && owner.error?.code == .closedLocally)
        #expect(rig.clientOwner.closed == 1 && rig.clientOwner.error == nil)
        try rig.run("the server's side ends") { rig.serverOwner.closed == 1 && rig.serverStreams[0].ends.count == 1 }
        #expect(rig.serverStreams[0].error != nil)
        try rig.run("both applications see it") { app.failure != nil && rig.serverApps[0].failure != nil }
        rig.client.close()
        #expect(rig.clientOwner.closed == 1)
    }

    @Test("a peer that vanishes")
    func vanishes() throws {
        let rig = try TunnelRig()
        let (app, owner) = try rig.openTunnel()
        app.toSend = 1000
        try rig.run("the stream works") { app.received == 1000 }
        Sockets.resetOnClose(rig.server.descriptor)
        rig.server.closeDescriptor()
        try rig.run("the client's stream ends") { owner.ends.count == 1 && rig.clientOwner.closed == 1 }
        #expect(owner.error?.code == .connectionLost)
        #expect(rig.clientOwner.error?.systemError?.code == ECONNRESET)
        try rig.run("the application sees it") { app.failure == ECONNRESET }
    }

    @Test("a connection nobody listens to, with the errno")
    func refused() throws {
        let loop = try EventLoop()
        let (listener, endpoint) = try TestSockets.listener()
        _ = Glibc.close(listener)
        let socket = try Sockets.tcp(dualStack: false)
        _ = try? Sockets.connect(socket.raw, to: endpoint, dualStack: false)
        let owner = Owner()
        let stream = StreamOwner()
        let connection = try HBONEConnection.open(
            socket, to: endpoint, on: loop, context: TestMaterial.client.get(), expectedIdentities: [],
            delegate: owner)
        _ = try connection.open(ConnectRequest(authority: "a:1"), delegate: stream)
        #expect(owner.closed == 0)
        let limit = MonotonicClock.now + 5_000_000_000
        while owner.closed == 0, MonotonicClock.now < limit { try loop.runRound(waitAtMostMilliseconds: 10) }
        #expect(owner.error?.code == .connectFailed)
        #expect(owner.error?.systemError?.code == ECONNREFUSED)
        #expect(stream.error?.code == .connectFailed)
    }

    @Test("peers that fail the handshake, each side told why")
    func handshakes() throws {
        let wrong = try TunnelRig(expecting: ["spiffe://cluster.local/ns/default/sa/other"])
        _ = try wrong.openTunnel()
        try wrong.run("both close") { wrong.clientOwner.closed == 1 && wrong.serverOwner.closed == 1 }
        #expect(wrong.clientOwner.error?.tlsError?.code == .identityMismatch)
        #expect(wrong.serverOwner.error?.tlsError?.code == .peerAlert)
        #expect(wrong.clientOwner.established == 0 && wrong.serverOwner.established == 0)

        let stranger = try TunnelRig(context: TestMaterial.stranger.get())
        try stranger.run("both close") { stranger.clientOwner.closed == 1 && stranger.serverOwner.closed == 1 }
        #expect(stranger.clientOwner.error?.tlsError?.code == .untrustedCertificate)
    }

    @Test("an owner that does not want the peer")
    func unwanted() throws {
        let rig = try TunnelRig()
        rig.serverOwner.accepts = false
        let (_, owner) = try rig.openTunnel()
        try rig.run("both close") { rig.clientOwner.closed == 1 && rig.serverOwner.closed == 1 }
        #expect(rig.serverOwner.error?.code == .refusedByOwner)
        #expect(owner.ends.count == 1 && owner.error != nil)
    }

    @Test("a server without streams is closed after a while")
    func idle() throws {
        var settings = HBONESettings.server
        settings.pingInterval = .milliseconds(20)
        settings.idleTimeout = .milliseconds(60)
        let rig = try TunnelRig(server: settings)
        let (app, owner) = try rig.openTunnel()
        app.toSend = 10
        try rig.run("the stream works") { app.received == 10 }
        try rig.settle(rounds: 150)
        #expect(rig.serverOwner.closed == 0)
        app.endsAfterSending = true
        try rig.run("the stream ends") { owner.ends.count == 1 }
        try rig.run("both close") { rig.clientOwner.closed == 1 && rig.serverOwner.closed == 1 }
        #expect(rig.serverOwner.error == nil && rig.clientOwner.error == nil)
    }
}
