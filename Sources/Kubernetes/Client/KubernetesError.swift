import AsyncHTTPClient
import NIOCore
import NIOSSL
import ObjectSource

/// What went wrong between here and an API server, for an operator.
public struct KubernetesError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Hashable, Sendable {
        /// The configuration cannot be used.
        case configuration
        /// Credentials cannot be had.
        case credentials
        /// No connection, or one that broke.
        case unreachable
        /// No answer in time.
        case timeout
        /// The server's certificate is not to be trusted.
        case untrusted
        /// 401
        case unauthorized
        /// 403
        case forbidden
        /// 404
        case notFound
        /// 409, by a change that came first or a name that is taken.
        case conflict
        /// 410: the version or the page asked for is no longer kept.
        case expired
        /// 400 and 422
        case invalid
        /// 429
        case tooManyRequests
        /// 500 and above
        case serverError
        /// An answer that is none.
        case badAnswer
        /// An answer that is larger than anything it could rightly be.
        case tooLarge
        case cancelled
    }

    public var code: Code
    /// The server's own words where it had some.
    public var message: String
    /// The API's word for it, as `NotFound` or `Expired`; empty where the server gave none.
    public var reason: String
    /// The HTTP status; 0 where there was no answer.
    public var status: Int
    public var cause: String
    public var hint: String
    /// How long the server wants to be left alone, in seconds.
    public var retryAfter: Int?

    public init(
        _ code: Code, _ message: String, reason: String = "", status: Int = 0, cause: String = "", hint: String = "",
        retryAfter: Int? = nil
    ) {
        self.code = code
        self.message = message
        self.reason = reason
        self.status = status
        self.cause = cause
        self.hint = hint
        self.retryAfter = retryAfter
    }

    public var description: String {
        var text = message
        if !cause.isEmpty { text += ": \(cause)" }
        if !hint.isEmpty { text += " (\(hint))" }
        return text
    }
}

extension KubernetesError {
    /// An answer that is no success. `body` is a Status object where an API server spoke, anything where a proxy did.
    init(httpStatus: Int, body: DocumentNode?, retryAfter: Int?, doing what: String) {
        let isStatus = body?["kind"]?.string == "Status"
        let message = isStatus ? body?["message"]?.string : nil
        self.init(
            Self.code(httpStatus), message ?? "the API server answered \(httpStatus)",
            reason: isStatus ? body?["reason"]?.string ?? "" : "", status: httpStatus, cause: "",
            retryAfter: retryAfter ?? body?["details"]?["retryAfterSeconds"]?.integer)
        if message == nil { cause = "to \(what)" }
        switch code {
        case .unauthorized: hint = "the token or certificate is not accepted; it may have expired"
        case .forbidden: hint = "the account lacks the right to \(what)"
        default: break
        }
    }

    /// The object of an ERROR event of a watch.
    init(statusOfEvent status: DocumentNode, doing what: String) {
        self.init(httpStatus: status["code"]?.integer ?? 500, body: status, retryAfter: nil, doing: what)
        if status["reason"]?.string == "Expired" || status["reason"]?.string == "Gone" { code = .expired }
    }

    private static func code(_ status: Int) -> Code {
        switch status {
        case 400, 422: .invalid
        case 401: .unauthorized
        case 403: .forbidden
        case 404, 405: .notFound
        case 409: .conflict
        case 410: .expired
        case 429: .tooManyRequests
        case 500...: .serverError
        default: .badAnswer
        }
    }

    /// Gives whatever the layers below throw this form.
    init(_ error: any Error, doing what: String) {
        switch error {
        case let error as KubernetesError: self = error
        case is CancellationError: self.init(.cancelled, "cancelled", cause: "to \(what)")
        case let error as HTTPClientError: self.init(error, doing: what)
        case is NIOTooManyBytesError:
            self.init(.tooLarge, "the answer is too large", cause: "to \(what)")
        case let error as NIOSSLError where "\(error)".contains("handshakeFailed"):
            self.init(
                .untrusted, "no TLS with the API server", cause: "\(error)",
                hint: "the CA may not be the server's, or the server's certificate is for another name")
        case is NIOSSLExtraError:
            self.init(
                .untrusted, "the API server's certificate is for another name", cause: "\(error)",
                hint: "set tls-server-name, or use a name that the certificate has")
        default: self.init(.unreachable, "the API server cannot be reached", cause: "\(error)")
        }
    }

    private init(_ error: HTTPClientError, doing what: String) {
        switch error {
        case .cancelled: self.init(.cancelled, "cancelled", cause: "to \(what)")
        case .readTimeout, .deadlineExceeded, .connectTimeout, .getConnectionFromPoolTimeout, .writeTimeout,
            .tlsHandshakeTimeout:
            self.init(.timeout, "the API server did not answer in time", cause: "\(error.shortDescription), to \(what)")
        default:
            self.init(.unreachable, "the connection to the API server broke", cause: error.shortDescription)
        }
    }
}
