/// Why a TLS context could not be made, a handshake failed, or an established session broke.
///
/// ``message`` is one sentence for an operator. Two errors are equal when code and message are.
public struct TLSError: Error, Sendable, Hashable {
    /// The kind of failure; new kinds may be added.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Kind: String {
            case invalidMaterial, notTLS, protocolVersion, noSharedParameters, noApplicationProtocol
            case noPeerCertificate, untrustedCertificate, certificateNotValidNow, wrongPurpose, badCertificate
            case certificateRevoked, revocationUnknown
            case trustDomainMismatch, identityMismatch
            case peerAlert, truncated, protocolViolation, internalFailure
        }
        private let kind: Kind

        private init(_ kind: Kind) { self.kind = kind }

        /// Our own certificate, key or roots cannot be used.
        public static let invalidMaterial = Code(.invalidMaterial)
        /// The first bytes of the peer are not TLS.
        public static let notTLS = Code(.notTLS)
        /// The peer does not speak TLS 1.3.
        public static let protocolVersion = Code(.protocolVersion)
        /// No cipher suite, group or signature algorithm in common.
        public static let noSharedParameters = Code(.noSharedParameters)
        /// The peer does not offer or choose `h2`.
        public static let noApplicationProtocol = Code(.noApplicationProtocol)
        /// The peer presented no certificate.
        public static let noPeerCertificate = Code(.noPeerCertificate)
        /// The peer's chain does not lead to one of our roots.
        public static let untrustedCertificate = Code(.untrustedCertificate)
        /// A certificate of the peer's chain has expired or is not valid yet.
        public static let certificateNotValidNow = Code(.certificateNotValidNow)
        /// The peer's certificate is not made for its side of the connection.
        public static let wrongPurpose = Code(.wrongPurpose)
        /// The peer's certificate is malformed or breaks a rule of RFC 5280.
        public static let badCertificate = Code(.badCertificate)
        /// A certificate of the peer's chain is on its authority's revocation list.
        public static let certificateRevoked = Code(.certificateRevoked)
        /// There should be revocation lists, and there are none that can be used.
        public static let revocationUnknown = Code(.revocationUnknown)
        /// No SPIFFE identity of the client lies in our trust domain.
        public static let trustDomainMismatch = Code(.trustDomainMismatch)
        /// No identity of the server is one of the expected ones.
        public static let identityMismatch = Code(.identityMismatch)
        /// The peer ended the connection with an alert.
        public static let peerAlert = Code(.peerAlert)
        /// The transport ended without close_notify.
        public static let truncated = Code(.truncated)
        /// The peer broke the TLS protocol, or a record was altered on the way.
        public static let protocolViolation = Code(.protocolViolation)
        /// The TLS library refused something that should always work.
        public static let internalFailure = Code(.internalFailure)

        public var description: String { kind.rawValue }
    }

    public let code: Code
    /// One sentence for an operator.
    public let message: String
    /// What the TLS library said, where it adds something.
    public let cause: String?
    /// What to look at, where there is something to look at.
    public let hint: String?
    /// The alert description (RFC 8446 section 6) sent to or received from the peer.
    public let alert: UInt8?

    public init(_ code: Code, _ message: String, cause: String? = nil, hint: String? = nil, alert: UInt8? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
        self.hint = hint
        self.alert = alert
    }

    public static func == (left: TLSError, right: TLSError) -> Bool {
        left.code == right.code && left.message == right.message
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(code)
        hasher.combine(message)
    }
}

extension TLSError: CustomStringConvertible {
    public var description: String {
        var text = message
        if let cause { text += ": \(cause)" }
        if let hint { text += " (\(hint))" }
        return text
    }
}

extension TLSError {
    /// Whether a certificate is revoked: the peer's, as our lists say, or our own, as the peer says.
    public var isRevocation: Bool {
        code == .certificateRevoked || code == .peerAlert && alert == Alert.certificateRevoked
    }
}
