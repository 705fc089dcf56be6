import HBONE
import Mesh
import TLSEngine

/// Who asked for a tunnel.
protocol TunnelRequestDelegate: AnyObject {
    /// A stream carries the request; the answer comes later. Called again when the request moves to another tunnel.
    func tunnelRequest(_ request: TunnelRequest, opened stream: HBONEStream)
    func tunnelRequest(_ request: TunnelRequest, answered reply: ConnectReply)
    /// Called exactly once, last, unless it was cancelled.
    func tunnelRequest(_ request: TunnelRequest, ended failure: TunnelFailure?)
}

/// One CONNECT on its way through the pool to a stream.
final class TunnelRequest: HBONEStreamDelegate {
    let request: ConnectRequest
    private weak var delegate: (any TunnelRequestDelegate)?
    /// The pool's tunnel that counts the stream.
    weak var tunnel: Tunnel?
    private weak var stream: HBONEStream?
    private(set) var isOver = false

    init(_ request: ConnectRequest, delegate: any TunnelRequestDelegate) {
        self.request = request
        self.delegate = delegate
    }

    func opened(_ stream: HBONEStream) {
        self.stream = stream
        delegate?.tunnelRequest(self, opened: stream)
    }

    func fail(_ failure: TunnelFailure) { end(failure) }

    /// The asker is not interested any more.
    func cancel() {
        delegate = nil
        isOver = true
    }

    /// Takes the request back from a tunnel on which it has to wait.
    /// - Returns: Whether it is free now; not when it was sent or is over.
    func withdraw() -> Bool {
        guard !isOver, let stream, stream.id == 0, !stream.isEnded else { return false }
        self.stream = nil
        stream.delegate = nil
        stream.abort(HBONEError(.closedLocally, "the request goes through another tunnel"))
        return true
    }

    func stream(_ stream: HBONEStream, received reply: ConnectReply) {
        delegate?.tunnelRequest(self, answered: reply)
    }

    func streamEnded(_ stream: HBONEStream, _ end: StreamEnd) {
        let isRevoked = tunnel?.isRevoked ?? false
        tunnel?.streamEnded()
        self.end(isRevoked ? .revoked : end.error.map { TunnelFailure($0) })
    }

    private func end(_ failure: TunnelFailure?) {
        guard !isOver else { return }
        isOver = true
        let delegate = delegate
        self.delegate = nil
        delegate?.tunnelRequest(self, ended: failure)
    }
}
