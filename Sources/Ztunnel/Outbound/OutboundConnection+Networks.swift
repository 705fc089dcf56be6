import HBONE
import Mesh

/// The way to another network: a tunnel to its gateway, and in it one to the service (double HBONE).
extension OutboundConnection: InnerTunnelDelegate {
    func ask(_ double: DoubleHBONERoute, from workload: Workload) {
        guard !double.expectedIdentities.isEmpty else {
            return failed(
                TunnelFailure(
                    text:
                        "no identity is known for \(double.service) in the other network; the control plane must send "
                        + "its subject_alt_names", flag: .tlsFailure))
        }
        question = (
            request(double, from: workload, network: nil),
            TunnelKey(identity: workload.identity, destination: double.dial, expected: double.gatewayIdentities)
        )
        ask()
    }

    private func request(_ double: DoubleHBONERoute, from workload: Workload, network: String?) -> ConnectRequest {
        var request = ConnectRequest(
            authority: double.authority.description, baggage: Baggage(workload).headerValue,
            forwarded: Forwarded(source: clientAddress ?? double.dial, host: double.service.hostname).headerValue,
            traceparent: trace.headerValue)
        if let network { request.headers.append(HeaderField("x-forwarded-network", network)) }
        return request
    }

    /// The gateway has accepted: the second tunnel begins in its stream.
    func goInside(_ double: DoubleHBONERoute, _ stream: HBONEStream, _ outer: TunnelRequest) {
        let state = proxy.services.store.snapshot()
        guard let workload = proxy.localWorkload(in: state),
            // At hand, since the outer tunnel was opened with it.
            let contexts = proxy.services.contexts.ready(workload.identity)
        else {
            outer.cancel()
            stream.abort(AbortReason.podGone.error)
            return failed(TunnelFailure(text: "no certificate for the tunnel inside the tunnel", flag: .identityError))
        }
        outer.cancel()
        do {
            stage = .inner(
                try InnerTunnel(
                    inside: stream, of: outer.tunnel, for: double,
                    request(double, from: workload, network: double.sourceNetwork), context: contexts.client,
                    configuration: proxy.configuration, delegate: self))
        } catch {
            stream.abort(error)
            failed(TunnelFailure(error))
        }
    }

    func innerTunnel(_ tunnel: InnerTunnel, answered reply: ConnectReply, on stream: HBONEStream) {
        guard case .inner = stage, case .doubleHBONE(let double) = route else { return }
        guard reply.isSuccess else { return failed(TunnelFailure(refusal: reply.status)) }
        isAnswered = true
        openReport(atGateway: double, reply, tunnel.peerIdentity)
        guard let client = client.take(), let report else { return end(nil) }
        succeeded()
        stream.relay(with: client, meter: report)
    }

    func innerTunnel(_ tunnel: InnerTunnel, ended failure: TunnelFailure?) {
        guard case .inner = stage else { return }
        guard let failure else { return end(nil) }
        guard !isAnswered else { return end(failure.afterEstablishment) }
        failed(failure)
    }

    /// The destination is the gateway until the far end has said who it is.
    func openReport(
        atGateway double: DoubleHBONERoute, _ reply: ConnectReply? = nil, _ identity: SPIFFEIdentity? = nil
    ) {
        let state = proxy.services.store.snapshot()
        guard let workload = proxy.localWorkload(in: state) else { return }
        var peer = Party(workload: double.gateway, principal: double.gateway.identity)
        if let said = reply?.header("baggage").map(Baggage.init(headerValue:)) {
            peer = Party(workload: nil, principal: identity, baggage: said)
        }
        open(
            Party(workload: workload, principal: workload.identity), peer, double.dial, double.authority.description,
            double.service)
    }
}
