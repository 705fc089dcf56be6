import Addressing
import LinuxNetwork
import Mesh
import TLSEngine

/// One HTTP/2 connection over mutual TLS that carries CONNECT tunnels; either side of it.
///
/// Confined to its event loop. Interface first: the body follows.
public final class HBONEConnection {
    public enum Role: Sendable { case server, client }

    public let role: Role
    public let loop: EventLoop
    public let settings: HBONESettings
    /// Client: who the server may be. Empty on a server.
    public let expectedIdentities: [SPIFFEIdentity]

    /// Serves a connection that was accepted. Nothing is called before this returns; the delegate is held until
    /// ``HBONEConnectionDelegate/connectionClosed(_:error:)``. Sets TCP_NODELAY.
    public static func serve(
        _ descriptor: consuming FileDescriptor, on loop: EventLoop, context: TLSContext,
        settings: HBONESettings = .server, delegate: any HBONEConnectionDelegate
    ) throws(SystemError) -> HBONEConnection {
        HBONEConnection(.server, loop, settings, [])
    }

    /// Opens a connection over a TCP socket that is connected or on the way to it (non-blocking connect). Waits for
    /// writability and reports what the kernel said. Nothing is called before this returns.
    /// - Parameter peer: Where the socket goes, for messages.
    public static func open(
        _ descriptor: consuming FileDescriptor, to peer: Endpoint, on loop: EventLoop, context: TLSContext,
        expectedIdentities: [SPIFFEIdentity], settings: HBONESettings = .client,
        delegate: any HBONEConnectionDelegate
    ) throws(SystemError) -> HBONEConnection {
        HBONEConnection(.client, loop, settings, expectedIdentities)
    }

    private init(_ role: Role, _ loop: EventLoop, _ settings: HBONESettings, _ expected: [SPIFFEIdentity]) {
        self.role = role
        self.loop = loop
        self.settings = settings
        expectedIdentities = expected
    }

    /// The peer's identity by the rule of our side; nil until ``HBONEConnectionDelegate/connectionEstablished(_:)``.
    public var peerIdentity: SPIFFEIdentity? { nil }
    /// All identities in the peer's certificate.
    public var peerIdentities: [SPIFFEIdentity] { [] }
    /// The TLS suite and key exchange, such as `TLS_AES_128_GCM_SHA256` and `X25519MLKEM768`; empty before.
    public var cipherName: String { "" }
    public var groupName: String { "" }

    /// Streams that are open, and requests that wait to be sent.
    public var streamCount: Int { 0 }
    /// Streams the peer lets us have at once: its SETTINGS, or ours where they are smaller.
    public var streamLimit: Int { settings.maximumStreams }
    /// Whether ``open(_:deadline:delegate:)`` is accepted now: not draining, not closed, ids and waiting room left.
    /// True also while connecting.
    public var canOpen: Bool { false }
    /// Whether the connection is over.
    public var isClosed: Bool { false }
    /// GOAWAY was sent or received, or ``drain()`` called: no new streams.
    public var isDraining: Bool { false }

    /// Client: asks for a tunnel. The request waits while the connection is being made or the peer's limit is reached.
    /// - Parameter deadline: How long the answer may take, waiting included; nil for no limit.
    /// - Throws: ``HBONEError/Code/goingAway``, ``HBONEError/Code/tooManyRequests`` or
    ///   ``HBONEError/Code/closedLocally``; the delegate is not called then.
    public func open(
        _ request: ConnectRequest, deadline: Duration? = nil, delegate: any HBONEStreamDelegate
    ) throws(HBONEError) -> HBONEStream {
        throw HBONEError(.goingAway, "not yet")
    }

    /// Takes no new streams (GOAWAY), lets those that are open finish, and then closes.
    public func drain() {}

    /// Closes at once. Streams end with ``HBONEError/Code/closedLocally``, their applications see a reset.
    public func close() {}
}
