import Addressing
import Glibc
import LinuxNetwork
import Mesh
import TLSEngine
import Testing

@testable import HBONE

/// A connection inside a tunnel to a gateway, which passes the bytes on to the server behind it.
private final class NestedRig {
    let outer: TunnelRig
    let innerOwner = Owner()
    let serverOwner = Owner()
    let carrierOwner = StreamOwner()
    private(set) var inner: HBONEConnection?
    private(set) var server: HBONEConnection?
    private(set) var carrier: HBONEStream?
    private(set) var failure: (any Error)?
    /// The application behind the inner server, and its stream.
    var serverApp: TestApp?
    let serverStream = StreamOwner()
    /// Where the gateway keeps the tunnel's other end instead of passing it to a server.
    var gatewayEnd: CInt = -1
    var keepsGatewayEnd = false
    var settings = HBONESettings.client

    init(expecting identity: String = TestMaterial.serverName) throws {
        outer = try TunnelRig()
        outer.serverOwner.onRequest = { [unowned self] stream, _ in answerAtGateway(stream) }
        serverOwner.onRequest = { [unowned self] stream, _ in
            do {
                let (inside, outside) = try TestSockets.pair()
                let app = TestApp(outside)
                app.echoes = true
                serverApp = app
                outer.serverApps.append(app)
                stream.accept(headers: [HeaderField("baggage", "k8s.pod.name=far")], delegate: serverStream)
                stream.relay(with: FileDescriptor(owning: inside), meter: serverStream)
            } catch {
                failure = error
            }
        }
        carrierOwner.onReply = { [unowned self] stream in
            do {
                inner = try HBONEConnection.open(
                    inside: stream, to: Endpoint(TestSockets.localhost, 15008), context: TestMaterial.client.get(),
                    expectedIdentities: [SPIFFEIdentity(identity)!], settings: settings, delegate: innerOwner)
            } catch {
                failure = error
            }
        }
        carrier = try outer.client.open(ConnectRequest(authority: "far.example:80"), delegate: carrierOwner)
    }

    private func answerAtGateway(_ stream: HBONEStream) {
        do {
            let (one, other) = try TestSockets.pair()
            let owner = StreamOwner()
            outer.serverStreams.append(owner)
            stream.accept(delegate: owner)
            stream.relay(with: FileDescriptor(owning: one))
            guard !keepsGatewayEnd else {
                gatewayEnd = other
                return
            }
            server = try HBONEConnection.serve(
                FileDescriptor(owning: other), on: outer.loop, context: TestMaterial.server.get(),
                delegate: serverOwner)
        } catch {
            failure = error
        }
    }

    deinit {
        inner?.close()
        server?.close()
        if gatewayEnd >= 0 { _ = close(gatewayEnd) }
    }

    /// An application's tunnel through both.
    func openTunnel() throws -> (app: TestApp, owner: StreamOwner) {
        let (inside, outside) = try TestSockets.pair()
        let app = TestApp(outside)
        outer.apps.append(app)
        let owner = StreamOwner()
        owner.onReply = { $0.relay(with: FileDescriptor(owning: inside), meter: owner) }
        let inner = try #require(inner)
        outer.streams.append(
            try inner.open(
                ConnectRequest(
                    authority: "far.example:80", headers: [HeaderField("x-forwarded-network", "near")]),
                delegate: owner))
        return (app, owner)
    }
}

@Suite("Tunnels inside tunnels")
struct NestedTunnelTests {
    @Test("8 MiB there and back through both, half-closed, and everything ends in order")
    func roundTrip() throws {
        let rig = try NestedRig()
        try rig.outer.run("the inner connection") { rig.innerOwner.established == 1 || rig.failure != nil }
        #expect(rig.failure == nil)
        let (app, owner) = try rig.openTunnel()
        app.toSend = 8 << 20
        app.endsAfterSending = true
        try rig.outer.run("the echo and its end") { app.sawEnd && owner.ends.count == 1 }
        #expect(app.received == 8 << 20 && app.isIntact && owner.error == nil)
        #expect(owner.reply?.header("baggage") == "k8s.pod.name=far")
        #expect(rig.serverOwner.requests.first?.header("x-forwarded-network") == "near")
        #expect(rig.server?.peerIdentity?.description == TestMaterial.clientName)
        // The inner connection is for one request; its end is the outer stream's.
        rig.inner?.drain()
        try rig.outer.run("the ends") {
            rig.innerOwner.closed == 1 && rig.serverOwner.closed == 1 && rig.outer.client.streamCount == 0
                && rig.outer.serverStreams[0].ends.count == 1
        }
        #expect(rig.innerOwner.error == nil && rig.serverOwner.error == nil)
        #expect(rig.outer.serverStreams[0].error == nil)
        #expect(rig.outer.loop.pool.lent == 0)
        #expect(rig.outer.clientOwner.closed == 0, "the outer tunnel goes on")
    }

    @Test("the server closes first; every byte arrives")
    func serverClosesFirst() throws {
        let rig = try NestedRig()
        try rig.outer.run("the inner connection") { rig.innerOwner.established == 1 }
        let (app, owner) = try rig.openTunnel()
        try rig.outer.run("the server's application") { rig.serverApp != nil }
        rig.serverApp?.echoes = false
        rig.serverApp?.toSend = 3 << 20
        rig.serverApp?.endsAfterSending = true
        try rig.outer.run("the bytes and the end") { app.sawEnd }
        #expect(app.received == 3 << 20 && app.isIntact)
        app.endsAfterSending = true
        try rig.outer.run("the end") { owner.ends.count == 1 }
        #expect(owner.error == nil)
    }

    @Test("a server behind the gateway that is somebody else is refused, whoever the gateway is")
    func wrongIdentity() throws {
        let rig = try NestedRig(expecting: "spiffe://cluster.local/ns/default/sa/other")
        try rig.outer.run("the refusal") { rig.innerOwner.closed == 1 }
        #expect(rig.innerOwner.established == 0)
        #expect(rig.innerOwner.error?.tlsError?.code == .identityMismatch)
        #expect(rig.outer.clientOwner.established == 1 && rig.outer.clientOwner.closed == 0)
        try rig.outer.run("the end of the outer stream") { rig.outer.client.streamCount == 0 }
    }

    @Test("the gateway's tunnel breaks: the inner streams hear why")
    func outerBreaks() throws {
        let rig = try NestedRig()
        try rig.outer.run("the inner connection") { rig.innerOwner.established == 1 }
        let (app, owner) = try rig.openTunnel()
        try rig.outer.run("the application behind") { rig.serverApp != nil && owner.reply != nil }
        rig.outer.client.close()
        try rig.outer.run("the ends") { owner.ends.count == 1 && rig.innerOwner.closed == 1 && app.failure != nil }
        #expect(owner.error?.code == .connectionLost)
        #expect(owner.error?.message.hasPrefix("the outer tunnel broke") == true)
        #expect(rig.outer.loop.pool.lent == 0)
    }

    @Test("a server behind the gateway that says nothing runs into the handshake's limit")
    func silentServer() throws {
        let rig = try NestedRig()
        rig.keepsGatewayEnd = true
        rig.settings.handshakeTimeout = .milliseconds(50)
        rig.settings.lingerTimeout = .milliseconds(20)
        try rig.outer.run("the limit") { rig.innerOwner.closed == 1 }
        #expect(rig.innerOwner.error?.code == .handshakeTimedOut)
        // The gateway never ends its side; the stream is given up all the same.
        try rig.outer.run("the end of the outer stream") { rig.outer.client.streamCount == 0 }
    }

    @Test("a stream that was refused, or that relays already, carries no connection")
    func notThere() throws {
        let rig = try NestedRig()
        try rig.outer.run("the inner connection") { rig.innerOwner.established == 1 }
        let carrier = try #require(rig.carrier)
        let error = #expect(throws: HBONEError.self) {
            _ = try HBONEConnection.open(
                inside: carrier, to: Endpoint(TestSockets.localhost, 15008), context: TestMaterial.client.get(),
                expectedIdentities: [], delegate: rig.innerOwner)
        }
        #expect(error?.code == .connectionLost)
    }
}
