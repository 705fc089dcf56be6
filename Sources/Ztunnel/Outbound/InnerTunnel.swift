import HBONE
import Mesh
import TLSEngine

/// Who asked for a tunnel inside a tunnel.
protocol InnerTunnelDelegate: AnyObject {
    func innerTunnel(_ tunnel: InnerTunnel, answered reply: ConnectReply, on stream: HBONEStream)
    /// Called exactly once, last.
    func innerTunnel(_ tunnel: InnerTunnel, ended failure: TunnelFailure?)
}

/// The connection to another network inside a gateway's stream: TLS and one request of its own, for one connection of the
/// application alone, so that the other side can balance them.
final class InnerTunnel: HBONEConnectionDelegate, HBONEStreamDelegate {
    private weak var delegate: (any InnerTunnelDelegate)?
    /// The gateway's tunnel counts the outer stream until this one is over.
    private var outer: Tunnel?
    private var connection: HBONEConnection?

    /// Whom the far end has proven to be.
    var peerIdentity: SPIFFEIdentity? { connection?.peerIdentity }

    /// Takes the outer stream over, which was answered with success.
    init(
        inside stream: HBONEStream, of outer: Tunnel?, for route: DoubleHBONERoute, _ request: ConnectRequest,
        context: TLSContext, configuration: ZtunnelConfiguration, delegate: any InnerTunnelDelegate
    ) throws(HBONEError) {
        self.delegate = delegate
        self.outer = outer
        let connection = try HBONEConnection.open(
            inside: stream, to: route.dial, context: context, expectedIdentities: route.expectedIdentities,
            settings: configuration.clientSettings, delegate: self)
        self.connection = connection
        do throws(HBONEError) {
            _ = try connection.open(request, deadline: configuration.responseTimeout, delegate: self)
        } catch {
            connection.close()
            throw error
        }
    }

    func abort(_ error: HBONEError) {
        delegate = nil
        connection?.close()
    }

    func stream(_ stream: HBONEStream, received reply: ConnectReply) {
        delegate?.innerTunnel(self, answered: reply, on: stream)
    }

    func streamEnded(_ stream: HBONEStream, _ end: StreamEnd) {
        // There will be no second request.
        connection?.drain()
        let delegate = delegate
        self.delegate = nil
        delegate?.innerTunnel(self, ended: end.error.map { TunnelFailure($0) })
    }

    func connectionClosed(_ connection: HBONEConnection, error: HBONEError?) {
        self.connection = nil
        outer?.streamEnded()
        outer = nil
    }
}
