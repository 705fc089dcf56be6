import LinuxNetwork
import Netlink

/// The listeners that captured connections are led to, as the kernel lists them in the pod's namespace.
enum ZtunnelListeners {
    /// The ports on which nobody listens who is ztunnel by the socket's mark.
    static func missing(_ plan: RedirectionPlan, _ diagnostics: inout SocketDiagnostics) throws(NetlinkError) -> [Drift]
    {
        let listeners = try diagnostics.tcpSockets(in: [.listening])
        var ports = [ZtunnelPort.outbound, ZtunnelPort.inboundPlaintext, ZtunnelPort.hbone]
        if plan.capturesDNS { ports.append(ZtunnelPort.dns) }
        let missing = ports.filter { port in !listeners.contains { $0.local.port == port && bearsMark($0) } }
        return missing.map { .listenerMissing($0) }
    }

    /// Whether a listener is one of ztunnel's, on whatever port of the mesh.
    static func isOne(_ listener: SocketEntry) -> Bool {
        let ports = [ZtunnelPort.outbound, ZtunnelPort.inboundPlaintext, ZtunnelPort.hbone, ZtunnelPort.dns]
        return ports.contains(listener.local.port) && bearsMark(listener)
    }

    private static func bearsMark(_ listener: SocketEntry) -> Bool {
        (listener.mark ?? Mark.ztunnel) & Mark.mask == Mark.ztunnel
    }
}
