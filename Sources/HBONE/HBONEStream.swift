import LinuxNetwork

/// One CONNECT tunnel of a connection. Confined to the connection's loop.
public final class HBONEStream {
    /// The connection; nil once the stream is over.
    public private(set) weak var connection: HBONEConnection?
    /// The stream's number (RFC 9113 section 5.1.1); 0 while the request waits to be sent.
    public internal(set) var id: UInt32 = 0
    /// Bytes read from the application so far.
    public internal(set) var bytesToTunnel: UInt64 = 0
    /// Bytes the application's socket took so far.
    public internal(set) var bytesFromTunnel: UInt64 = 0
    /// Whether the stream is over.
    public internal(set) var isEnded = false

    init() {}

    /// Server: answers 200 and gives the stream its owner. ``relay(with:registration:meter:)`` must follow, now or later.
    public func accept(headers: [HeaderField] = [], delegate: any HBONEStreamDelegate) {}

    /// Server: answers with an error status and ends the stream. No delegate is called.
    public func reject(status: Int, headers: [HeaderField] = []) {}

    /// Moves bytes between the tunnel and a connected non-blocking TCP socket, both ways, until both directions have
    /// ended; then closes the socket and calls ``HBONEStreamDelegate/streamEnded(_:_:)`` (never from within this
    /// call). END_STREAM and FIN, and stream reset and TCP reset, stand for each other.
    /// - Parameters:
    ///   - registration: Where the socket is already registered with the loop (with ``Interest/connection``), that
    ///     registration, which the stream takes over.
    ///   - meter: Told of bytes as they go by.
    public func relay(
        with descriptor: consuming FileDescriptor, registration: EventLoop.Registration? = nil,
        meter: (any RelayMeter)? = nil
    ) {}

    /// Gives the stream up: the peer sees CANCEL, the application a reset. `streamEnded` follows with this error.
    public func abort(_ error: HBONEError) {}
}
