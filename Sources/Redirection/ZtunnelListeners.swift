import LinuxNetwork
import Netlink

/// The listeners that captured connections are led to, as the kernel lists them in the pod's namespace.
enum ZtunnelListeners {
    /// The ports on which nobody listens who is ztunnel by the socket's mark.
    static func missing(_ plan: RedirectionPlan, _ diagnostics: inout SocketDiagnostics) throws(NetlinkError) -> [Drift]
    {
        let listeners = try diagnostics.tcpSockets(in: [.listening])
        let streams = [ZtunnelPort.outbound, ZtunnelPort.inboundPlaintext, ZtunnelPort.hbone]
        let missing = streams.filter { port in
            !listeners.contains { $0.local.port == port && ($0.mark ?? Mark.ztunnel) & Mark.mask == Mark.ztunnel }
        }
        // The DNS proxy's are on loopback and bear no mark.
        let dns = plan.capturesDNS && !listeners.contains { $0.local.port == ZtunnelPort.dns } ? [ZtunnelPort.dns] : []
        return (missing + dns).map { .listenerMissing($0) }
    }
}
