import Addressing
import Glibc
import HBONE
import LinuxNetwork
import Mesh
import TLSEngine
import Testing

/// What a connection told its owner.
final class Owner: HBONEConnectionDelegate {
    var onRequest: (HBONEStream, ConnectRequest) -> Void = { stream, _ in stream.reject(status: 503) }
    var accepts = true
    var established = 0
    var closed = 0
    var error: HBONEError?
    var requests: [ConnectRequest] = []

    func connectionEstablished(_ connection: HBONEConnection) -> Bool {
        established += 1
        return accepts
    }

    func connection(_ connection: HBONEConnection, received request: ConnectRequest, on stream: HBONEStream) {
        requests.append(request)
        onRequest(stream, request)
    }

    func connectionClosed(_ connection: HBONEConnection, error: HBONEError?) {
        closed += 1
        self.error = error
    }
}

/// What a stream told its owner.
final class StreamOwner: HBONEStreamDelegate, RelayMeter {
    var reply: ConnectReply?
    var ends: [StreamEnd] = []
    var metered: (to: Int, from: Int) = (0, 0)
    var onReply: (HBONEStream) -> Void = { _ in }
    var error: HBONEError? { ends.first?.error }

    func stream(_ stream: HBONEStream, received reply: ConnectReply) {
        self.reply = reply
        if reply.isSuccess { onReply(stream) }
    }

    func streamEnded(_ stream: HBONEStream, _ end: StreamEnd) { ends.append(end) }
    func toTunnel(_ bytes: Int) { metered.to += bytes }
    func fromTunnel(_ bytes: Int) { metered.from += bytes }
}

/// A client and a server connection on one loop, which the test runs itself.
final class TunnelRig {
    let loop: EventLoop
    let clientOwner = Owner()
    let serverOwner = Owner()
    let client: HBONEConnection
    let server: HBONEConnection
    /// The servers' applications, in the order of the requests.
    var serverApps: [TestApp] = []
    var serverStreams: [StreamOwner] = []
    var streams: [HBONEStream] = []
    var apps: [TestApp] = []
    /// What is done to a server's application before anything else.
    var prepare: (TestApp) -> Void = { $0.echoes = true }

    init(
        client clientSettings: HBONESettings = .client, server serverSettings: HBONESettings = .server,
        context: TLSContext? = nil, expecting identities: [String] = [TestMaterial.serverName]
    ) throws {
        loop = try EventLoop()
        let (one, other) = try TestSockets.pair()
        client = try HBONEConnection.open(
            FileDescriptor(owning: one), to: Endpoint(TestSockets.localhost, 15008), on: loop,
            context: context ?? TestMaterial.client.get(),
            expectedIdentities: identities.compactMap { SPIFFEIdentity($0) }, settings: clientSettings,
            delegate: clientOwner)
        server = try HBONEConnection.serve(
            FileDescriptor(owning: other), on: loop, context: TestMaterial.server.get(), settings: serverSettings,
            delegate: serverOwner)
        serverOwner.onRequest = { [unowned self] stream, _ in answer(stream) }
    }

    deinit {
        client.close()
        server.close()
    }

    /// Connects a stream of the server with an application.
    func answer(_ stream: HBONEStream) {
        do {
            let (inside, outside) = try TestSockets.pair()
            let app = TestApp(outside)
            prepare(app)
            serverApps.append(app)
            let owner = StreamOwner()
            serverStreams.append(owner)
            stream.accept(delegate: owner)
            stream.relay(with: FileDescriptor(owning: inside), meter: owner)
        } catch {
            Issue.record("no application: \(error)")
        }
    }

    /// A request, and an application that is connected with the tunnel when it is open.
    @discardableResult
    func openTunnel(deadline: Duration? = nil) throws -> (app: TestApp, owner: StreamOwner) {
        let (inside, outside) = try TestSockets.pair()
        let app = TestApp(outside)
        apps.append(app)
        let owner = StreamOwner()
        owner.onReply = { $0.relay(with: FileDescriptor(owning: inside), meter: owner) }
        streams.append(
            try client.open(ConnectRequest(authority: "10.0.0.1:80"), deadline: deadline, delegate: owner))
        return (app, owner)
    }

    /// Runs the loop and the applications until the condition holds.
    func run(
        seconds: Double = 20, _ what: Comment, sourceLocation: SourceLocation = #_sourceLocation,
        until condition: () -> Bool
    ) throws {
        let limit = MonotonicClock.now + UInt64(seconds * 1e9)
        while !condition() {
            guard MonotonicClock.now < limit else {
                Issue.record("waited in vain: \(what)", sourceLocation: sourceLocation)
                return
            }
            try loop.runRound(waitAtMostMilliseconds: 1)
            for app in apps { app.pump() }
            for app in serverApps { app.pump() }
        }
    }

    /// Runs for a while in which something must not happen.
    func settle(rounds: Int = 30) throws {
        for _ in 0..<rounds {
            try loop.runRound(waitAtMostMilliseconds: 1)
            for app in apps { app.pump() }
            for app in serverApps { app.pump() }
        }
    }
}
