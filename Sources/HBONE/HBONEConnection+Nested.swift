import Addressing
import Glibc
import LinuxNetwork
import Mesh
import TLSEngine

/// A connection inside a stream of another one (double HBONE): what a gateway between networks carries without
/// seeing into it.
///
/// The stream relays one end of a local socket pair, the connection runs over the other. So each of them is exactly
/// what it is over TCP, with the same limits, and the path of the bytes knows nothing of nesting; the price is one more
/// copy through the kernel, for traffic between networks alone (docs/adr/0010-nested-tunnels.md).
extension HBONEConnection {
    /// Opens a client connection inside a stream that the peer has answered with success and that relays nothing yet.
    /// Takes the stream over: its delegate is not called any more, and it ends with the connection, as the connection
    /// ends with it. Nothing is called before this returns.
    /// - Parameters:
    ///   - peer: Where the inner connection ends, for messages; for a gateway its own endpoint.
    ///   - expectedIdentities: Whom the inner peer must prove to be, whatever the outer one proved.
    /// - Throws: ``HBONEError/Code/connectionLost`` when the stream is over or taken already (also a stream that was
    ///   refused), ``HBONEError/Code/connectFailed`` when there are no descriptors left.
    public static func open(
        inside stream: HBONEStream, to peer: Endpoint, context: TLSContext, expectedIdentities: [SPIFFEIdentity],
        settings: HBONESettings = .client, delegate: any HBONEConnectionDelegate
    ) throws(HBONEError) -> HBONEConnection {
        guard let outer = stream.connection, !stream.isEnded, stream.isAnswered, stream.descriptor < 0 else {
            throw HBONEError(.connectionLost, "the outer tunnel is over")
        }
        var ends: [CInt] = [-1, -1]
        let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw HBONEError(
                .connectFailed, "no room for a tunnel inside a tunnel", systemError: SystemError("socketpair"))
        }
        let far = FileDescriptor(owning: ends[1])
        let connection = HBONEConnection(
            .client, ends[0], outer.loop, context, settings, peer: peer, expected: expectedIdentities,
            delegate: delegate)
        do throws(SystemError) {
            // Connected from birth: the first event says so, and the handshake begins.
            try connection.begin(settings.connectTimeout, isTCP: false)
        } catch {
            throw HBONEError(.connectFailed, "no room for a tunnel inside a tunnel", systemError: error)
        }
        connection.carrier = stream
        stream.delegate = Carried(connection)
        stream.relay(with: far)
        return connection
    }

    /// The transport is closed on our side. What was said last is still relayed; then there is nothing to wait for.
    func releaseCarrier() {
        guard let carrier else { return }
        self.carrier = nil
        _ = loop.schedule(after: settings.lingerTimeout, CarrierEnd(carrier))
    }

    /// Ends a stream whose connection is gone, if its peer has not done so meanwhile.
    private final class CarrierEnd: TimerHandler {
        private let stream: HBONEStream

        init(_ stream: HBONEStream) { self.stream = stream }

        func timerFired(tag: Int) {
            stream.abort(HBONEError(.closedLocally, "the connection inside the tunnel is closed"))
        }
    }

    /// Hears for a nested connection how its carrier ended.
    private final class Carried: HBONEStreamDelegate {
        weak var connection: HBONEConnection?

        init(_ connection: HBONEConnection) { self.connection = connection }

        func streamEnded(_ stream: HBONEStream, _ end: StreamEnd) {
            guard let connection else { return }
            connection.carrier = nil
            // An orderly end is read from the socket, behind the last bytes.
            guard let error = end.error else { return }
            connection.lost(
                HBONEError(
                    .connectionLost, "the outer tunnel broke: \(error.message)", hint: error.hint,
                    tlsError: error.tlsError, systemError: error.systemError, http2Code: error.http2Code,
                    status: error.status))
        }
    }
}
