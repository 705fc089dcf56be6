import HBONE
import Mesh

/// Why a tunnel or a connection to an endpoint did not come about or broke: for the access log and the metrics, and for
/// the decision what to do next.
struct TunnelFailure: Error, Equatable {
    enum Kind: Equatable {
        /// The tunnel went away under the request, which another tunnel to the same peer may well carry.
        case tunnelLost
        /// The endpoint cannot be reached or does not work: another one may.
        case endpoint
        /// The endpoint takes no more for now: another one may. Nothing is held against it.
        case busy
        /// Another endpoint would say the same, or it is our own side that failed.
        case final
    }

    let text: String
    let flag: TelemetryLabels.ResponseFlag
    var kind = Kind.final
}

extension TunnelFailure {
    static let revoked = TunnelFailure(
        text: AbortReason.certificateRevoked.text, flag: AbortReason.certificateRevoked.flag)

    init(_ error: HBONEError) {
        let (flag, kind): (TelemetryLabels.ResponseFlag, Kind) =
            switch error.code {
            case .tls where error.tlsError?.isRevocation == true: (.certificateRevoked, .endpoint)
            case .tls, .handshakeTimedOut: (.tlsFailure, .endpoint)
            case .settingsTimedOut, .protocolError: (.http2HandshakeFailure, .endpoint)
            case .connectTimedOut: (.networkPolicy, .endpoint)
            case .connectFailed, .replyTimedOut, .peerUnresponsive: (.connectFailure, .endpoint)
            case .connectionLost, .goingAway, .refusedByPeer: (.connectFailure, .tunnelLost)
            case .peerError: (.connectFailure, .endpoint)
            case .tooManyRequests: (.connectFailure, .final)
            default: (.none, .final)
            }
        self.init(text: "\(error)", flag: flag, kind: kind)
    }

    /// As it is told of a connection that had come about: what broke it then is no failure to connect. A revoked peer is
    /// one at any time.
    var afterEstablishment: ConnectionReport.Failure {
        ConnectionReport.Failure(text: text, flag: flag == .certificateRevoked ? flag : .none)
    }

    /// What a peer means by an answer that is not 200.
    init(refusal status: Int) {
        switch status {
        case 401: self.init(text: "denied by the peer: http status: 401", flag: .denied)
        case 429: self.init(text: "the peer takes no more: http status: 429", flag: .limited, kind: .busy)
        case 503:
            self.init(
                text: "the peer cannot reach the application: http status: 503", flag: .applicationUnreachable,
                kind: .endpoint)
        default: self.init(text: "refused by the peer: http status: \(status)", flag: .connectFailure)
        }
    }

    init(_ failure: Dial.Failure) {
        let kind: Kind =
            switch failure.code {
            case .refused, .timeout, .failed: .endpoint
            case .noSocket, .family: .final
            }
        self.init(text: failure.description, flag: .connectFailure, kind: kind)
    }
}
