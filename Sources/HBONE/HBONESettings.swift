/// The limits and times of an HBONE connection.
public struct HBONESettings: Sendable {
    /// Bytes of one stream that may be on the way to us, or wait here for the application to take them.
    public var streamWindow = 4 << 20
    /// Bytes of all streams that may be on the way to us.
    public var connectionWindow = 16 << 20
    /// Bytes of all streams of one connection that may wait here for slow applications before the peer is slowed down
    /// as a whole. Below it, one slow application never holds up the others.
    public var maximumUnread = 64 << 20
    /// The longest frame payload we accept.
    public var maximumFrameSize = 1 << 20
    /// Streams that the client may have open at once on a connection we serve.
    public var maximumStreams = 200
    /// The longest list of decoded header fields we accept, counted as RFC 9113 section 6.5.2 does.
    public var maximumHeaderList = 64 << 10
    /// Requests that may wait on a client connection until the peer's SETTINGS and stream limit let them go.
    public var maximumWaitingRequests = 1000

    /// From the start of a client connection to the end of the TCP handshake.
    public var connectTimeout = Duration.seconds(10)
    /// For the TLS handshake, from the first moment of the connection on a server.
    public var handshakeTimeout = Duration.seconds(10)
    /// From the end of the TLS handshake to the peer's SETTINGS.
    public var settingsTimeout = Duration.seconds(10)
    /// From the last sign of life to a PING.
    public var pingInterval = Duration.seconds(10)
    /// How long the answer to a PING may take.
    public var pingTimeout = Duration.seconds(20)
    /// How long a connection we serve may be without streams before it is closed; nil for ever.
    public var idleTimeout: Duration? = .seconds(600)
    /// How long a connection that has said goodbye waits for the peer to read it.
    public var lingerTimeout = Duration.seconds(1)

    public init() {}

    /// For connections we accept.
    public static let server = HBONESettings()

    /// For connections we open.
    public static let client: HBONESettings = {
        var settings = HBONESettings()
        settings.maximumHeaderList = 16 << 10
        settings.idleTimeout = nil
        return settings
    }()
}
