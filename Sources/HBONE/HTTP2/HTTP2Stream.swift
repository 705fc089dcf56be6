/// What the state machine knows of a stream that is not over.
struct HTTP2Stream {
    /// Bytes we may still send.
    var sendWindow: Int
    /// Bytes the peer may still send.
    var receiveWindow: Int
    /// Bytes the application took that the peer has not been told of.
    var returned = 0
    var sentEnd = false
    var receivedEnd = false
    /// Server: the reply was sent. Client: the final reply was received.
    var isAnswered = false
    /// The reply was a success, so only DATA may follow (RFC 9113 section 8.5).
    var isTunnel = false

    var isOver: Bool { sentEnd && receivedEnd }
}
