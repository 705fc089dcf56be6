import Addressing
import DequeModule
import Glibc
import LinuxNetwork
import Mesh
import TLSEngine

/// One HTTP/2 connection over mutual TLS that carries CONNECT tunnels; either side of it.
///
/// Confined to its event loop. Holds no buffer while there is nothing to move: bytes of the socket are read into a
/// buffer of the loop's pool, opened into a second one and given to the applications' sockets from there; bytes of the
/// applications are read behind room for their frame header, sealed into a buffer of the pool and sent from there.
/// While the socket does not take what was sealed, no application is read.
public final class HBONEConnection {
    public enum Role: Sendable {
        case server, client
    }

    enum Phase {
        /// TCP is on its way.
        case connecting
        case handshaking
        case open
        /// Over for everybody; the last words are still being sent.
        case lingering
        case closed
    }

    enum Timer {
        static let phase = 1
        static let ping = 2
        static let linger = 3
    }

    public let role: Role
    public let loop: EventLoop
    public let settings: HBONESettings
    /// Client: who the server may be. Empty on a server.
    public let expectedIdentities: [SPIFFEIdentity]
    /// The other end of the socket, where it is known.
    public let peerEndpoint: Endpoint?

    var phase: Phase
    var descriptor: CInt
    var registration: EventLoop.Registration?
    var delegate: (any HBONEConnectionDelegate)?
    /// Only until the session is made.
    var context: TLSContext?
    var tls: TLSSession?
    var http2: HTTP2Connection

    var streams: [UInt32: HBONEStream] = [:]
    /// Requests that wait for the connection or for the peer's stream limit.
    var waiting = Deque<HBONEStream>()
    /// Streams whose application may have something to say, in turn.
    var sendQueue = Deque<HBONEStream>()
    /// Streams to be looked at once the current round is over.
    var kicked: [HBONEStream] = []

    // The socket, edge by edge.
    var readable = false
    var sawHangup = false
    var inputEnded = false
    var isDeferred = false

    /// What was sealed and not yet sent.
    var output: BufferPool.Buffer?
    var outputStart = 0
    var outputEnd = 0
    /// The socket took less than it was given; an edge will tell when it takes more.
    var isBlocked = false

    var timer: TimerID?
    var pingOutstanding = false
    var isPeerReady = false
    var idleSince: UInt64
    public internal(set) var isDraining = false
    var drainAnnounced = false
    var peerGoAway: HBONEError?
    /// The stream of another connection that this one runs inside.
    var carrier: HBONEStream?

    init(
        _ role: Role, _ descriptor: CInt, _ loop: EventLoop, _ context: TLSContext, _ settings: HBONESettings,
        peer: Endpoint?, expected: [SPIFFEIdentity], delegate: any HBONEConnectionDelegate
    ) {
        self.role = role
        self.descriptor = descriptor
        self.loop = loop
        self.context = context
        self.settings = settings
        self.delegate = delegate
        expectedIdentities = expected
        peerEndpoint = peer
        phase = role == .server ? .handshaking : .connecting
        http2 = HTTP2Connection(role: role == .server ? .server : .client, settings: settings)
        idleSince = loop.now
    }

    deinit { if descriptor >= 0 { _ = Glibc.close(descriptor) } }

    /// Serves a connection that was accepted. Nothing is called before this returns; the delegate is held until
    /// ``HBONEConnectionDelegate/connectionClosed(_:error:)``. Sets TCP_NODELAY.
    public static func serve(
        _ descriptor: consuming FileDescriptor, on loop: EventLoop, context: TLSContext,
        settings: HBONESettings = .server, delegate: any HBONEConnectionDelegate
    ) throws(SystemError) -> HBONEConnection {
        let raw = descriptor.release()
        let connection = HBONEConnection(
            .server, raw, loop, context, settings, peer: Sockets.peerEndpoint(raw), expected: [], delegate: delegate)
        try connection.begin(settings.handshakeTimeout)
        return connection
    }

    /// Opens a connection over a TCP socket that is connected or on the way to it (non-blocking connect). Waits for
    /// writability and reports what the kernel said. Nothing is called before this returns. Sets TCP_NODELAY.
    /// - Parameter peer: Where the socket goes, for messages.
    public static func open(
        _ descriptor: consuming FileDescriptor, to peer: Endpoint, on loop: EventLoop, context: TLSContext,
        expectedIdentities: [SPIFFEIdentity], settings: HBONESettings = .client,
        delegate: any HBONEConnectionDelegate
    ) throws(SystemError) -> HBONEConnection {
        let connection = HBONEConnection(
            .client, descriptor.release(), loop, context, settings, peer: peer, expected: expectedIdentities,
            delegate: delegate)
        try connection.begin(settings.connectTimeout)
        return connection
    }

    func begin(_ timeout: Duration, isTCP: Bool = true) throws(SystemError) {
        if isTCP { try Sockets.setNoDelay(descriptor) }
        registration = try loop.register(descriptor, .connection, self)
        timer = loop.schedule(after: timeout, self, tag: Timer.phase)
    }

    // MARK: What it is

    /// The peer's identity by the rule of our side; nil until ``HBONEConnectionDelegate/connectionEstablished(_:)``.
    public var peerIdentity: SPIFFEIdentity? { tls?.peerIdentity }
    /// All identities in the peer's certificate.
    public var peerIdentities: [SPIFFEIdentity] { tls?.peerIdentities ?? [] }
    /// The certificates of the peer's chain, to recognise a revoked one by; empty when nothing is ever revoked.
    public var peerChain: [CertificateKey] { tls?.peerChain ?? [] }
    /// Of the revocation lists that the chain was held against.
    public var revocationGeneration: UInt64 { tls?.revocationGeneration ?? 0 }
    /// The TLS suite, such as `TLS_AES_128_GCM_SHA256`; empty before the handshake is over.
    public var cipherName: String { tls?.cipherName ?? "" }
    /// The TLS key exchange, such as `X25519MLKEM768`; empty before the handshake is over.
    public var groupName: String { tls?.groupName ?? "" }

    /// Streams that are open, and requests that wait to be sent.
    public var streamCount: Int { streams.count + waiting.count }
    /// Streams the peer lets us have at once: its SETTINGS, or ours where they are smaller.
    public var streamLimit: Int { min(http2.peerMaximumStreams, settings.maximumStreams) }
    /// Whether the peer's SETTINGS have come: until then ``streamLimit`` is ours alone.
    public var knowsPeerSettings: Bool { isPeerReady }
    /// Whether ``open(_:deadline:delegate:)`` is accepted now: not draining, not closed, ids and waiting room left.
    /// True also while connecting.
    public var canOpen: Bool {
        guard role == .client, !isClosed, !isDraining, peerGoAway == nil else { return false }
        return waiting.count < settings.maximumWaitingRequests && http2.nextStream < 0x7fff_ff00
    }
    /// Whether the connection is over.
    public var isClosed: Bool {
        switch phase {
        case .connecting, .handshaking, .open: false
        case .lingering, .closed: true
        }
    }

    // MARK: What can be asked of it

    /// Client: asks for a tunnel. The request waits while the connection is being made or the peer's limit is reached.
    /// - Parameter deadline: How long the answer may take, waiting included; nil for no limit.
    /// - Throws: ``HBONEError/Code/goingAway``, ``HBONEError/Code/tooManyRequests`` or
    ///   ``HBONEError/Code/closedLocally``; the delegate is not called then.
    public func open(
        _ request: ConnectRequest, deadline: Duration? = nil, delegate: any HBONEStreamDelegate
    ) throws(HBONEError) -> HBONEStream {
        guard role == .client, !isClosed else {
            throw HBONEError(.closedLocally, "the tunnel connection is closed")
        }
        guard !isDraining, peerGoAway == nil, http2.nextStream < 0x7fff_ff00 else {
            throw HBONEError(.goingAway, "the tunnel connection takes no new streams")
        }
        guard waiting.count < settings.maximumWaitingRequests else {
            throw HBONEError(.tooManyRequests, "\(waiting.count) requests wait on the tunnel connection already")
        }
        guard HTTP2Fields.isAuthority(request.authority),
            request.headers.allSatisfy({ HTTP2Fields.isRegular($0.name, $0.value) })
        else { throw HBONEError(.protocolError, "a request with characters that HTTP/2 does not allow") }
        let stream = HBONEStream(self, request: request)
        stream.delegate = delegate
        if let deadline { stream.deadline = loop.schedule(after: deadline, stream) }
        waiting.append(stream)
        sendWaiting()
        return stream
    }

    /// Takes no new streams (GOAWAY), lets those that are open finish, and then closes.
    public func drain() {
        guard !isClosed, !isDraining else { return }
        isDraining = true
        guard phase == .open else {
            // Requests that wait for a client's handshake are carried yet; no others are.
            drainAnnounced = !waiting.isEmpty
            return waiting.isEmpty ? finish(nil, politely: false) : ()
        }
        endWaiting(HBONEError(.goingAway, "the tunnel connection is being drained"))
        guard phase == .open else { return }
        if role == .server {
            // A first warning; the final word follows when the client has heard it (RFC 9113 section 6.8).
            http2.goAway(last: 0x7fff_ffff)
            http2.ping(Self.drainPing)
        } else {
            http2.goAway(last: 0)
            drainAnnounced = true
        }
        runLater()
    }

    /// Closes at once. Streams end with ``HBONEError/Code/closedLocally``, their applications see a reset.
    public func close() {
        guard !isClosed else { return }
        if phase == .open { http2.goAway(last: http2.highestPeerStream) }
        finish(nil, politely: false)
    }

    static let drainPing: UInt64 = 0x6170_7573_6472_6169
    static let livenessPing: UInt64 = 0x6170_7573_7069_6e67
}
