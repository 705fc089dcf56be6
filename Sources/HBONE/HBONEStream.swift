import Glibc
import LinuxNetwork

/// One CONNECT tunnel of a connection. Confined to the connection's loop.
///
/// Holds no buffer: what its application will not take at once is kept in a queue that the stream's window bounds.
public final class HBONEStream {
    /// The connection; nil once the stream is over.
    public internal(set) var connection: HBONEConnection?
    /// The stream's number (RFC 9113 section 5.1.1); 0 while the request waits to be sent.
    public internal(set) var id: UInt32
    /// Bytes read from the application so far.
    public internal(set) var bytesToTunnel: UInt64 = 0
    /// Bytes the application's socket took so far.
    public internal(set) var bytesFromTunnel: UInt64 = 0
    /// Whether the stream is over.
    public internal(set) var isEnded = false
    /// The owner. A server sets it when the request comes, to hear of a client that gives up before the answer.
    public var delegate: (any HBONEStreamDelegate)?

    var meter: (any RelayMeter)?
    var deadline: TimerID?
    private var request: ConnectRequest?

    /// The application's socket; -1 before the relay.
    var descriptor: CInt = -1
    var registration: EventLoop.Registration?
    /// What the application has not taken yet.
    var backlog = ByteQueue()
    var appReadable = false
    var appWritable = true
    var appHungUp = false
    /// The application's FIN was read and passed on, or nothing can be sent any more.
    var appEnded = false
    /// The peer's END_STREAM came.
    var receivedEnd = false
    /// The application's FIN was read, so closing its socket says all there is to say.
    var readEnd = false
    /// FIN was sent to the application, or goes with the close.
    var wroteEnd = false
    var isAnswered = false
    var isQueued = false
    /// There are bytes to send, but no window for them.
    var isWindowBlocked = false
    var relayError: SystemError?

    /// A request of ours.
    init(_ connection: HBONEConnection, request: ConnectRequest) {
        self.connection = connection
        self.request = request
        id = 0
    }

    /// A request of the peer.
    init(_ connection: HBONEConnection, id: UInt32) {
        self.connection = connection
        self.id = id
    }

    /// Both directions of the stream are over; only the application has not taken everything yet.
    var isDelivering: Bool { receivedEnd && appEnded && descriptor >= 0 }

    func takeRequest() -> ConnectRequest? {
        defer { request = nil }
        return request
    }

    // MARK: Server

    /// Server: answers 200 and gives the stream its owner. ``relay(with:registration:meter:)`` must follow, now or
    /// later.
    /// - Returns: Whether the client is still there; if not, the stream is over, and only an owner it had before has
    ///   been told.
    @discardableResult
    public func accept(headers: [HeaderField] = [], delegate: any HBONEStreamDelegate) -> Bool {
        guard let connection, !isEnded, !isAnswered else { return false }
        isAnswered = true
        self.delegate = delegate
        connection.http2.reply(id, ConnectReply(status: 200, headers: headers), end: false)
        connection.runLater()
        return true
    }

    /// Server: answers with an error status and ends the stream. No delegate is called.
    public func reject(status: Int, headers: [HeaderField] = []) {
        guard let connection, !isEnded, !isAnswered else { return }
        delegate = nil
        connection.http2.reply(id, ConnectReply(status: status, headers: headers), end: true)
        // The request is answered in full; what the client may still send is not wanted (RFC 9113 section 8.1).
        connection.http2.reset(id, HTTP2Code.noError)
        connection.runLater()
        end(nil)
    }

    // MARK: Both sides

    /// Moves bytes between the tunnel and a connected non-blocking TCP socket, both ways, until both directions have
    /// ended; then closes the socket and calls ``HBONEStreamDelegate/streamEnded(_:_:)`` (never from within this
    /// call). END_STREAM and FIN, and stream reset and TCP reset, stand for each other. TCP_NODELAY is the
    /// owner's to set, once for all on a listener.
    ///
    /// On a stream that is over the socket is reset, and nobody is called.
    /// - Parameters:
    ///   - registration: Where the socket is already registered with the loop (with ``Interest/connection``), that
    ///     registration, which the stream takes over.
    ///   - meter: Told of bytes as they go by.
    public func relay(
        with descriptor: consuming FileDescriptor, registration: EventLoop.Registration? = nil,
        meter: (any RelayMeter)? = nil
    ) {
        guard let connection, !isEnded, self.descriptor < 0 else {
            if let registration { self.connection?.loop.deregister(registration) }
            return Sockets.resetOnClose(descriptor.raw)
        }
        self.descriptor = descriptor.release()
        self.meter = meter
        do throws(SystemError) {
            if let registration {
                self.registration = registration
                connection.loop.rehandle(registration, self)
                // The edges until now were somebody else's.
                appReadable = true
                appHungUp = true
                connection.enqueue(self)
            } else {
                self.registration = try connection.loop.register(self.descriptor, .connection, self)
            }
        } catch {
            relayError = error
        }
        if relayError != nil || !backlog.isEmpty || receivedEnd {
            connection.kicked.append(self)
            connection.runLater()
        }
    }

    /// Lets the application's socket acknowledge at once what it has held back (TCP_QUICKACK).
    public func acknowledge() { if descriptor >= 0 { Sockets.acknowledge(descriptor) } }

    /// Gives the stream up: the peer sees a reset, and so does the application. ``HBONEStreamDelegate/streamEnded(_:_:)``
    /// follows with this error before the call returns.
    public func abort(_ error: HBONEError) {
        guard let connection, !isEnded else { return }
        resetPeer(connection)
        end(error)
    }

    /// CANCEL means a clean end to peers of our kind, so a tunnel that is cut short gets another code.
    func resetPeer(_ connection: HBONEConnection) {
        guard id != 0 else { return }
        connection.http2.reset(id, isAnswered ? HTTP2Code.connectError : HTTP2Code.cancel)
        connection.runLater()
    }

    /// The end, once: closes the socket, gives the window back and tells the owner.
    func end(_ error: HBONEError?) {
        guard !isEnded, let connection else { return }
        isEnded = true
        if let deadline { connection.loop.cancel(deadline) }
        deadline = nil
        closeDescriptor(reset: error != nil, connection.loop)
        if !backlog.isEmpty {
            connection.http2.consumed(id, backlog.count)
            backlog.removeAll()
        }
        self.connection = nil
        meter = nil
        let delegate = delegate
        self.delegate = nil
        connection.forget(self)
        delegate?.streamEnded(
            self, StreamEnd(toTunnel: bytesToTunnel, fromTunnel: bytesFromTunnel, error: error))
        connection.streamIsOver()
    }
}

extension HBONEStream: TimerHandler {
    public func timerFired(tag: Int) {
        deadline = nil
        guard !isAnswered, let connection else { return }
        resetPeer(connection)
        end(HBONEError(.replyTimedOut, "the peer did not answer the CONNECT in time"))
    }
}

extension HBONEConnection {
    /// Takes a stream that is over out of the books.
    func forget(_ stream: HBONEStream) {
        if stream.id != 0 {
            streams[stream.id] = nil
        } else if let index = waiting.firstIndex(where: { $0 === stream }) {
            waiting.remove(at: index)
        }
        if streams.isEmpty { idleSince = loop.now }
    }

    /// After the owner of a stream has heard that it is over.
    func streamIsOver() {
        guard phase == .open else { return }
        if !waiting.isEmpty { sendWaiting() }
        delegate?.connectionCapacityChanged(self)
        if isDraining || peerGoAway != nil { runLater() }
    }
}
