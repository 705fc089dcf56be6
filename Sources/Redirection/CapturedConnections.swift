import LinuxNetwork
import Netlink

/// Tells from the sockets of a pod's namespace which connections pass through ztunnel.
enum CapturedConnections {
    /// States in which bytes may still be on their way.
    private static let alive: Set<SocketEntry.State> = [
        .established, .synSent, .synReceived, .newSynReceived, .finWait1, .finWait2, .closeWait, .lastAck, .closing,
    ]

    static func count(_ diagnostics: inout SocketDiagnostics) throws(NetlinkError) -> Int {
        try diagnostics.tcpSockets(in: alive).count(where: isCaptured)
    }

    static func isCaptured(_ socket: SocketEntry) -> Bool {
        // Given up by its process with all data delivered: the kernel only waits for the other side's end.
        if socket.state == .finWait2, socket.inode == 0 { return false }
        let ports = [ZtunnelPort.outbound, ZtunnelPort.inboundPlaintext]
        if ports.contains(socket.local.port) { return true }
        // ztunnel's own connections carry its mark. Those to and from 15008 are tunnels, pooled and often idle; a
        // tunnel in use shows by the connection to the app behind it, or by the captured one before it.
        guard let mark = socket.mark, mark & Mark.mask == Mark.ztunnel else { return false }
        return socket.local.port != ZtunnelPort.hbone && socket.remote.port != ZtunnelPort.hbone
    }
}
