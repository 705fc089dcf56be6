import HBONE
import Mesh

/// Who asked for a tunnel.
protocol TunnelRequestDelegate: AnyObject {
    /// A stream carries the request; the answer comes later.
    func tunnelRequest(_ request: TunnelRequest, opened stream: HBONEStream)
    func tunnelRequest(_ request: TunnelRequest, answered reply: ConnectReply)
    /// Called exactly once, last, unless it was cancelled.
    func tunnelRequest(_ request: TunnelRequest, ended failure: TunnelFailure?)
}

/// Why a tunnel did not come about or broke, as the access log and the metrics tell it.
struct TunnelFailure: Error {
    let text: String
    let flag: TelemetryLabels.ResponseFlag
    /// The tunnel went away under the request, which another tunnel may well carry.
    var mayRetry = false
}

extension TunnelFailure {
    init(_ error: HBONEError) {
        let flag: TelemetryLabels.ResponseFlag =
            switch error.code {
            case .tls, .handshakeTimedOut: .tlsFailure
            case .settingsTimedOut, .protocolError: .http2HandshakeFailure
            case .connectFailed, .connectTimedOut, .connectionLost, .goingAway, .refusedByPeer, .replyTimedOut,
                .peerUnresponsive, .tooManyRequests:
                .connectFailure
            default: .none
            }
        let mayRetry =
            switch error.code {
            case .connectionLost, .goingAway, .refusedByPeer: true
            default: false
            }
        self.init(text: "\(error)", flag: flag, mayRetry: mayRetry)
    }
}

/// One CONNECT on its way through the pool to a stream.
final class TunnelRequest: HBONEStreamDelegate {
    let request: ConnectRequest
    /// The application's socket, whose first bytes go along with the request.
    let early: CInt
    private weak var delegate: (any TunnelRequestDelegate)?
    /// The pool's tunnel that counts the stream.
    weak var tunnel: Tunnel?
    private(set) var isOver = false

    /// - Parameter early: The asker's, and open until it hears of an answer or the end.
    init(_ request: ConnectRequest, early: CInt, delegate: any TunnelRequestDelegate) {
        self.request = request
        self.early = early
        self.delegate = delegate
    }

    func opened(_ stream: HBONEStream) { delegate?.tunnelRequest(self, opened: stream) }

    func fail(_ failure: TunnelFailure) { end(failure) }

    /// The asker is not interested any more.
    func cancel() {
        delegate = nil
        isOver = true
    }

    func stream(_ stream: HBONEStream, received reply: ConnectReply) {
        delegate?.tunnelRequest(self, answered: reply)
    }

    func streamEnded(_ stream: HBONEStream, _ end: StreamEnd) {
        tunnel?.streamEnded()
        self.end(end.error.map(TunnelFailure.init))
    }

    private func end(_ failure: TunnelFailure?) {
        guard !isOver else { return }
        isOver = true
        let delegate = delegate
        self.delegate = nil
        delegate?.tunnelRequest(self, ended: failure)
    }
}
