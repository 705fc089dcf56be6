import Addressing
import Glibc
import LinuxNetwork
import Mesh
import Testing

@testable import HBONE

@Suite("Tunnels: bytes and ends")
struct RelayTests {
    @Test("64 MiB there and back, whole and in order, and no buffer held afterwards")
    func echo() throws {
        let rig = try TunnelRig()
        let (app, owner) = try rig.openTunnel()
        let size = 64 << 20
        app.toSend = size
        app.endsAfterSending = true
        try rig.run(seconds: 60, "the echo") {
            app.sawEnd && !owner.ends.isEmpty && rig.serverStreams[0].ends.count == 1
        }
        #expect(app.received == size && app.isIntact && rig.serverApps[0].isIntact)
        for end in owner.ends + rig.serverStreams[0].ends {
            #expect(end.error == nil)
            #expect(end.toTunnel == UInt64(size) && end.fromTunnel == UInt64(size))
        }
        #expect(owner.metered == (size, size))
        #expect(owner.ends.count == 1)
        try rig.settle()
        #expect(rig.loop.pool.lent == 0)
        #expect(rig.client.http2.unread == 0 && rig.server.http2.unread == 0)
        #expect(rig.client.streamCount == 0 && rig.server.streamCount == 0)
        #expect(rig.client.groupName == "X25519MLKEM768")
        #expect(rig.client.peerIdentity == SPIFFEIdentity(TestMaterial.serverName))
        #expect(rig.server.peerIdentity == SPIFFEIdentity(TestMaterial.clientName))
    }

    @Test("14. the client ends first, the server goes on")
    func clientEndsFirst() throws {
        let rig = try TunnelRig()
        rig.prepare = { _ in }
        let (app, owner) = try rig.openTunnel()
        app.toSend = 10
        app.endsAfterSending = true
        try rig.run("the server sees the end") { rig.serverApps.first?.sawEnd == true }
        #expect(rig.serverApps[0].received == 10)
        #expect(owner.ends.isEmpty && !app.sawEnd)
        rig.serverApps[0].toSend = 1_000_000
        try rig.run("the late bytes") { app.received == 1_000_000 }
        #expect(!app.sawEnd)
        rig.serverApps[0].endsAfterSending = true
        try rig.run("both ends") { app.sawEnd && owner.ends.count == 1 && rig.serverStreams[0].ends.count == 1 }
        #expect(owner.error == nil && rig.serverStreams[0].error == nil)
        #expect(app.failure == nil && app.isIntact)
    }

    @Test("the server sends, ends and closes first; every byte arrives")
    func serverEndsFirst() throws {
        let rig = try TunnelRig()
        rig.prepare = {
            $0.toSend = 3_000_000
            $0.endsAfterSending = true
        }
        let (app, owner) = try rig.openTunnel()
        try rig.run("the end") { app.sawEnd }
        #expect(app.received == 3_000_000 && app.isIntact)
        #expect(owner.ends.isEmpty)
        app.toSend = 5
        app.endsAfterSending = true
        try rig.run("both ends") {
            owner.ends.count == 1 && rig.serverStreams[0].ends.count == 1 && rig.serverApps[0].sawEnd
        }
        #expect(rig.serverApps[0].received == 5)
        #expect(owner.error == nil && rig.serverStreams[0].error == nil)
    }

    @Test("bytes that the client's application sent before the answer arrive, and so does an end without any")
    func earlyAndEmpty() throws {
        let rig = try TunnelRig()
        let (early, first) = try rig.openTunnel()
        early.toSend = 1000
        early.endsAfterSending = true
        early.pump()
        let (silent, second) = try rig.openTunnel()
        silent.endsAfterSending = true
        silent.pump()
        try rig.run("both ends") {
            first.ends.count == 1 && second.ends.count == 1 && early.sawEnd && silent.sawEnd
        }
        #expect(early.received == 1000 && silent.received == 0)
        #expect(first.error == nil && second.error == nil)
    }

    @Test("150 streams at once, each its own bytes")
    func manyStreams() throws {
        var settings = HBONESettings.client
        settings.maximumStreams = 1000
        let rig = try TunnelRig(client: settings)
        var owners: [StreamOwner] = []
        for index in 0..<150 {
            let (app, owner) = try rig.openTunnel()
            app.toSend = 1000 + index * 100
            app.endsAfterSending = true
            owners.append(owner)
        }
        try rig.run("all ends") { owners.allSatisfy { $0.ends.count == 1 } && rig.apps.allSatisfy(\.sawEnd) }
        for (index, app) in rig.apps.enumerated() {
            #expect(app.received == 1000 + index * 100 && app.isIntact && app.sawEnd)
        }
        #expect(owners.allSatisfy { $0.error == nil })
        try rig.settle()
        #expect(rig.loop.pool.lent == 0)
    }

    @Test("a slow reader holds no more than its window, and holds nobody else up")
    func slowReader() throws {
        var settings = HBONESettings.server
        settings.streamWindow = 1 << 20
        settings.connectionWindow = 2 << 20
        let rig = try TunnelRig(server: settings)
        rig.prepare = { $0.appetite = 0 }
        // Enough of them to fill the connection's window twice over.
        var slow: [(app: TestApp, owner: StreamOwner)] = []
        for _ in 0..<5 {
            slow.append(try rig.openTunnel())
            slow.last?.app.toSend = 64 << 20
        }
        try rig.run("all windows are full") {
            rig.server.streams.count == 5 && rig.server.http2.streams.values.allSatisfy { $0.receiveWindow == 0 }
        }
        try rig.settle()
        for stream in rig.server.streams.values { #expect(stream.backlog.count <= 1 << 20) }
        #expect(rig.server.http2.unread <= 5 << 20)
        #expect(rig.loop.pool.lent == 0)
        rig.prepare = { $0.echoes = true }
        let (quick, owner) = try rig.openTunnel()
        quick.toSend = 4 << 20
        quick.endsAfterSending = true
        try rig.run("the quick one") { owner.ends.count == 1 && quick.sawEnd }
        #expect(quick.received == 4 << 20 && quick.isIntact)
        // One begins to read after all, and gets everything.
        slow[0].app.endsAfterSending = true
        rig.serverApps[0].appetite = .max
        rig.serverApps[0].endsAfterSending = true
        try rig.run(seconds: 60, "the slow one") { slow[0].owner.ends.count == 1 && rig.serverApps[0].sawEnd }
        #expect(rig.serverApps[0].received == 64 << 20 && rig.serverApps[0].isIntact)
        #expect(slow[0].owner.error == nil)
    }

    @Test("both directions full at once do not lock up")
    func bothFull() throws {
        var settings = HBONESettings.client
        settings.streamWindow = 1 << 18
        settings.connectionWindow = 1 << 20
        let rig = try TunnelRig(client: settings, server: settings)
        rig.prepare = {
            $0.toSend = 8 << 20
            $0.endsAfterSending = true
            $0.appetite = 0
        }
        var owners: [StreamOwner] = []
        for _ in 0..<4 {
            let (app, owner) = try rig.openTunnel()
            app.toSend = 8 << 20
            app.endsAfterSending = true
            app.appetite = 0
            owners.append(owner)
        }
        try rig.run("the applications are connected") { rig.serverApps.count == 4 }
        try rig.settle(rounds: 100)
        for app in rig.apps + rig.serverApps { app.appetite = .max }
        try rig.run(seconds: 60, "everything") {
            owners.allSatisfy { $0.ends.count == 1 } && (rig.apps + rig.serverApps).allSatisfy(\.sawEnd)
        }
        for app in rig.apps + rig.serverApps { #expect(app.received == 8 << 20 && app.isIntact) }
        #expect(owners.allSatisfy { $0.error == nil })
    }

    @Test("an application that breaks off breaks off at the other end too", arguments: [true, false])
    func applicationResets(onClient: Bool) throws {
        let rig = try TunnelRig()
        rig.prepare = { _ in }
        let (app, owner) = try rig.openTunnel()
        app.toSend = 100
        try rig.run("the first bytes") { rig.serverApps.first?.received == 100 }
        let (breaker, other) = onClient ? (app, rig.serverApps[0]) : (rig.serverApps[0], app)
        breaker.close(reset: true)
        try rig.run("both streams end") { owner.ends.count == 1 && rig.serverStreams[0].ends.count == 1 }
        let (near, far) = onClient ? (owner, rig.serverStreams[0]) : (rig.serverStreams[0], owner)
        #expect(near.error?.code == .applicationFailed)
        #expect(near.error?.systemError?.code == ECONNRESET)
        #expect(far.error?.code == .streamReset)
        #expect(far.error?.http2Code == HTTP2Code.connectError)
        try rig.run("the other application sees it") { other.failure != nil }
        #expect(other.failure == ECONNRESET)
        #expect(!rig.client.isClosed && !rig.server.isClosed)
    }

    @Test("CANCEL and NO_ERROR from the peer are a clean end", arguments: [HTTP2Code.cancel, HTTP2Code.noError])
    func cleanReset(code: UInt32) throws {
        let rig = try TunnelRig()
        rig.prepare = { $0.toSend = 500_000 }
        let (app, owner) = try rig.openTunnel()
        try rig.run("the bytes are sent") { rig.serverStreams.first?.metered.to == 500_000 }
        let stream = try #require(rig.server.streams.values.first)
        rig.server.http2.reset(stream.id, code)
        rig.server.runLater()
        try rig.run("the client's end") { app.sawEnd && owner.ends.count == 1 }
        #expect(app.received == 500_000 && owner.error == nil)
    }

    @Test("a stream can be given up on either side")
    func abort() throws {
        let rig = try TunnelRig()
        let (app, owner) = try rig.openTunnel()
        app.toSend = 100
        try rig.run("the echo") { app.received == 100 }
        rig.streams[0].abort(HBONEError(.closedLocally, "policy"))
        #expect(owner.ends.count == 1 && owner.error?.message == "policy")
        try rig.run("the server's stream ends") { rig.serverStreams[0].ends.count == 1 }
        #expect(rig.serverStreams[0].error?.code == .streamReset)
        try rig.run("both applications see it") { app.failure != nil && rig.serverApps[0].failure != nil }
        #expect(rig.client.streamCount == 0)
    }

    @Test("a socket that was watched before is taken over with its registration")
    func registered() throws {
        final class Nobody: EventHandler { func ready(_ events: ReadyEvents) {} }
        let rig = try TunnelRig()
        let (inside, outside) = try TestSockets.pair()
        let app = TestApp(outside)
        rig.apps.append(app)
        let registration = try rig.loop.register(inside, .connection, Nobody())
        app.toSend = 5000
        app.endsAfterSending = true
        app.pump()
        let owner = StreamOwner()
        owner.onReply = { $0.relay(with: FileDescriptor(owning: inside), registration: registration) }
        rig.streams.append(try rig.client.open(ConnectRequest(authority: "a:1"), delegate: owner))
        try rig.run("the echo") { owner.ends.count == 1 && app.sawEnd }
        #expect(app.received == 5000 && owner.error == nil)
    }
}
