/// The owner of a tunnel connection. Called on the connection's loop; every method may call back into the connection.
public protocol HBONEConnectionDelegate: AnyObject {
    /// TLS is done and the peer is known. Return false to close the connection.
    func connectionEstablished(_ connection: HBONEConnection) -> Bool
    /// Server: the peer asks for a tunnel. Answer now or later with ``HBONEStream/accept(headers:delegate:)`` or
    /// ``HBONEStream/reject(status:)``, and always: there is no time limit here.
    func connection(_ connection: HBONEConnection, received request: ConnectRequest, on stream: HBONEStream)
    /// ``HBONEConnection/canOpen`` may have changed: the peer's SETTINGS arrived, streams ended, or it is going away.
    func connectionCapacityChanged(_ connection: HBONEConnection)
    /// The connection is over and all its streams have been told; called exactly once.
    /// - Parameter error: Nil after an orderly end.
    func connectionClosed(_ connection: HBONEConnection, error: HBONEError?)
}

extension HBONEConnectionDelegate {
    public func connectionEstablished(_ connection: HBONEConnection) -> Bool { true }
    public func connection(_ connection: HBONEConnection, received request: ConnectRequest, on stream: HBONEStream) {
        stream.reject(status: 503)
    }
    public func connectionCapacityChanged(_ connection: HBONEConnection) {}
    public func connectionClosed(_ connection: HBONEConnection, error: HBONEError?) {}
}

/// The owner of a stream. Called on the connection's loop.
public protocol HBONEStreamDelegate: AnyObject {
    /// Client: the peer answered. On success call ``HBONEStream/relay(with:registration:meter:)`` now or later; any
    /// other status
    /// is followed by ``streamEnded(_:_:)`` at once.
    func stream(_ stream: HBONEStream, received reply: ConnectReply)
    /// The stream is over; called exactly once, last.
    func streamEnded(_ stream: HBONEStream, _ end: StreamEnd)
}

extension HBONEStreamDelegate {
    public func stream(_ stream: HBONEStream, received reply: ConnectReply) {}
}

/// Counts the bytes of a relay as they go by.
public protocol RelayMeter: AnyObject {
    /// Bytes read from the application and given to the tunnel.
    func toTunnel(_ bytes: Int)
    /// Bytes that came out of the tunnel and that the application's socket took.
    func fromTunnel(_ bytes: Int)
}

/// How a stream ended.
public struct StreamEnd: Sendable {
    /// Bytes read from the application.
    public let toTunnel: UInt64
    /// Bytes the application's socket took.
    public let fromTunnel: UInt64
    /// Nil when both directions ended in order.
    public let error: HBONEError?
}
