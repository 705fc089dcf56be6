import Addressing
import LinuxNetwork
import Netlink

/// Connections that conntrack believes to be open and that are over.
///
/// It looks at packets only while somebody in the namespace has use for it. A connection from the time when capture was
/// leaving, which ended when capture was gone, is remembered for days; a new one with the same addresses and ports would
/// count as the old one, and what is no new connection is not translated: it would go past capture. So what has no socket
/// any more is forgotten when capture begins.
enum ForgottenConnections {
    private static let tracked = KernelSetting(path: "/proc/sys/net/netfilter/nf_conntrack_count")
    private static let alive = Set(SocketEntry.State.allCases).subtracting([.closed, .listening])

    /// In the calling thread's namespace, when capture is in force already: what opens from now on is translated.
    static func forget(_ routes: inout RouteSocket) throws(NetlinkError) {
        // The common case: nothing to go through.
        guard let count = tracked.read(), count != "0" else { return }
        var conntrack = try ConntrackSocket()
        let connections = try conntrack.tcpConnections()
        guard connections.contains(where: { !$0.isTranslated }) else { return }
        let own = Set(try routes.addresses().map(\.address.canonical))
        // Read later than what is remembered: whatever was open then and has no socket now is over.
        var diagnostics = try SocketDiagnostics()
        let sockets = try diagnostics.tcpSockets(in: alive)
        for connection in over(connections, own: own, sockets) { try conntrack.forget(connection) }
    }

    /// Those with an end in the pod that no socket is at. What is translated is so by capture, and would be captured again, or
    /// by other software of the pod, which may need it; what only passes through the pod has no sockets here.
    static func over(
        _ connections: [TrackedConnection], own: Set<IPAddress>, _ sockets: [SocketEntry]
    ) -> [TrackedConnection] {
        struct Ends: Hashable {
            let here: Endpoint
            let there: Endpoint
        }
        let open = Set(sockets.map { Ends(here: $0.local, there: $0.remote) })
        return connections.filter { connection in
            guard !connection.isTranslated, connection.zone == 0 else { return false }
            let (from, to) = (connection.source, connection.destination)
            guard own.contains(from.address) || own.contains(to.address) else { return false }
            return !open.contains(Ends(here: from, there: to)) && !open.contains(Ends(here: to, there: from))
        }
    }
}
