import Addressing
import LinuxNetwork
import Netlink

/// Connections of the pod's own that do not pass through ztunnel although the pod is captured: they were open before.
///
/// Told from the sockets alone, so there is nothing to keep and nothing to go stale: of a captured connection ztunnel has
/// the other end in the same namespace.
enum SparedConnections {
    static func list(_ diagnostics: inout SocketDiagnostics) throws(NetlinkError) -> [SocketEntry] {
        // The common case of a pod that has just begun, at a fraction of the cost.
        if try diagnostics.listenersAlone() != nil { return [] }
        return apart(from: try diagnostics.tcpSockets(in: [.established]))
    }

    static func apart(from sockets: [SocketEntry]) -> [SocketEntry] {
        struct Ends: Hashable {
            let here: Endpoint
            let there: Endpoint
        }
        func isZtunnels(_ socket: SocketEntry) -> Bool { (socket.mark ?? 0) & Mark.mask == Mark.ztunnel }
        // With translation ztunnel's end bears its own port; without, the address the app wanted.
        let translated = Set(sockets.filter { isZtunnels($0) && $0.local.port == ZtunnelPort.outbound }.map(\.remote))
        let ends = Set(sockets.map { Ends(here: $0.local, there: $0.remote) })
        return sockets.filter { socket in
            guard !isZtunnels(socket), !socket.local.address.isLoopback else { return false }
            guard socket.local.port != ZtunnelPort.dns else { return false }
            return !translated.contains(socket.local) && !ends.contains(Ends(here: socket.remote, there: socket.local))
        }
    }
}
