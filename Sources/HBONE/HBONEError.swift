import LinuxNetwork
import TLSEngine

/// Why a tunnel connection or one of its streams failed.
public struct HBONEError: Error, Sendable, CustomStringConvertible {
    /// The kind of failure; new kinds may be added.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Kind: String {
            case connectFailed, connectTimedOut, tls, handshakeTimedOut, settingsTimedOut
            case protocolError, peerError, peerUnresponsive, connectionLost, closedLocally, refusedByOwner
            case tooManyRequests, goingAway, replyTimedOut, refusedByPeer, rejected, streamReset, applicationFailed
        }
        private let kind: Kind
        private init(_ kind: Kind) { self.kind = kind }

        /// TCP could not connect; ``HBONEError/systemError`` has the errno.
        public static let connectFailed = Code(.connectFailed)
        /// TCP did not connect in time.
        public static let connectTimedOut = Code(.connectTimedOut)
        /// TLS failed; ``HBONEError/tlsError`` says how.
        public static let tls = Code(.tls)
        /// The TLS handshake took too long.
        public static let handshakeTimedOut = Code(.handshakeTimedOut)
        /// The peer sent no SETTINGS in time.
        public static let settingsTimedOut = Code(.settingsTimedOut)
        /// The peer broke HTTP/2.
        public static let protocolError = Code(.protocolError)
        /// The peer says we broke HTTP/2, or closes for another reason of its own (GOAWAY with an error).
        public static let peerError = Code(.peerError)
        /// No answer to a PING.
        public static let peerUnresponsive = Code(.peerUnresponsive)
        /// The transport ended or broke under open streams.
        public static let connectionLost = Code(.connectionLost)
        /// We closed the connection.
        public static let closedLocally = Code(.closedLocally)
        /// The delegate did not want the peer.
        public static let refusedByOwner = Code(.refusedByOwner)
        /// Too many requests wait on the connection.
        public static let tooManyRequests = Code(.tooManyRequests)
        /// The connection takes no new streams; the request was not processed and may go elsewhere.
        public static let goingAway = Code(.goingAway)
        /// The peer did not answer the CONNECT in time.
        public static let replyTimedOut = Code(.replyTimedOut)
        /// The peer refused the stream unprocessed (REFUSED_STREAM); it may be tried again.
        public static let refusedByPeer = Code(.refusedByPeer)
        /// The peer answered the CONNECT with an error; ``HBONEError/status`` has it.
        public static let rejected = Code(.rejected)
        /// The stream was reset; ``HBONEError/http2Code`` has the reason.
        public static let streamReset = Code(.streamReset)
        /// The application's socket failed; ``HBONEError/systemError`` has the errno.
        public static let applicationFailed = Code(.applicationFailed)

        public var description: String { kind.rawValue }
    }

    public let code: Code
    /// One sentence for an operator.
    public let message: String
    public let hint: String?
    public let tlsError: TLSError?
    public let systemError: SystemError?
    /// The HTTP/2 error code (RFC 9113 section 7) sent or received.
    public let http2Code: UInt32?
    /// The HTTP status of a refusal.
    public let status: Int?

    public init(
        _ code: Code, _ message: String, hint: String? = nil, tlsError: TLSError? = nil,
        systemError: SystemError? = nil, http2Code: UInt32? = nil, status: Int? = nil
    ) {
        self.code = code
        self.message = message
        self.hint = hint
        self.tlsError = tlsError
        self.systemError = systemError
        self.http2Code = http2Code
        self.status = status
    }

    public var description: String {
        var text = message
        if let tlsError { text += ": \(tlsError)" }
        if let systemError { text += ": \(systemError)" }
        if let hint { text += " (\(hint))" }
        return text
    }
}
