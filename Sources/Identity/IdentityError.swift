/// What went wrong with a key, a certificate, a token or a certificate authority.
///
/// The message is for an operator and names no secret: neither keys nor tokens ever become part of it.
public struct IdentityError: Error, Sendable {
    public enum Code: String, Sendable, Hashable, CaseIterable {
        // Files of keys and certificates.
        case fileUnreadable
        case filePermissions
        case fileMalformed
        case keyMismatch
        case incompleteAuthority

        // Requests to the certificate authority.
        case requestTooLarge
        case requestMalformed
        case requestSignature
        case requestsAuthority
        case unsupportedKey
        case identityRefused
        case validityTooLong
        case authorityExpired

        // Answers of the certificate authority.
        case responseTooLarge
        case responseMalformed
        case rootMissing
        case identityMismatch
        case chainInvalid
        case certificateExpired

        // Tokens.
        case tokenMissing
        case tokenMalformed
        case tokenAlgorithm
        case tokenSignature
        case tokenIssuer
        case tokenAudience
        case tokenSubject
        case tokenExpired
        case tokenNotYetValid

        // Fetching.
        case authorityUnreachable
        case authorityRefused
        case timedOut
        case tooManyWaiters
        case tooManyIdentities
        case forgotten
        case shutDown
        case configuration
        case cryptography
    }

    public let code: Code
    /// One sentence for an operator.
    public let message: String
    /// The error underneath, where there is one.
    public let cause: (any Error)?
    /// What to try, where something can be tried.
    public let hint: String?

    public init(_ code: Code, _ message: String, cause: (any Error)? = nil, hint: String? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
        self.hint = hint
    }
}

extension IdentityError: CustomStringConvertible {
    public var description: String {
        var text = message
        if let cause { text += ": \(cause)" }
        if let hint { text += " (\(hint))" }
        return text
    }
}

extension IdentityError {
    /// The error itself where it is one of ours, otherwise wrapped.
    static func wrapping(_ error: any Error, _ code: Code, _ message: String) -> IdentityError {
        (error as? IdentityError) ?? IdentityError(code, message, cause: error)
    }
}
