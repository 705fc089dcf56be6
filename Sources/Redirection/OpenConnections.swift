import Addressing
import Glibc
import LinuxNetwork
import Netlink

/// The connections that were open in a namespace before capture began.
enum OpenConnections {
    private static let open: Set<SocketEntry.State> = [
        .established, .synSent, .synReceived, .newSynReceived, .finWait1, .finWait2, .closeWait, .lastAck, .closing,
    ]

    /// Marks them in the calling thread's namespace, so that they go on as they are. New connections must be captured
    /// already, and unmarked ones left alone still.
    static func spare(with programs: CapturePrograms) throws(RedirectionError) {
        // What was half open at first has a socket to mark a moment later; a handshake that takes longer is not waited for.
        for _ in 0..<10 {
            let (cookies, isSettled) = try read()
            try programs.spare(cookies)
            if isSettled { return }
            poll(nil, 0, 5)
        }
    }

    private static func read() throws(RedirectionError) -> (cookies: [UInt64], isSettled: Bool) {
        do throws(NetlinkError) {
            var diagnostics = try SocketDiagnostics()
            // Where nobody but ztunnel listens, there is no half-open connection either.
            if let listeners = try diagnostics.listenersAlone(), listeners.allSatisfy(ZtunnelListeners.isOne) {
                return ([], true)
            }
            let first = try diagnostics.tcpSockets(in: open)
            if uncaptured(first, others: first).isEmpty { return ([], true) }
            // The other ends are looked for in a later reading: a captured connection's is there by then.
            let second = try diagnostics.tcpSockets(in: open.union([.timeWait]))
            let found = uncaptured(first, others: first + second)
            let isSettled = !found.contains { $0.state == .synReceived || $0.state == .newSynReceived }
            return (found.map(\.cookie), isSettled)
        } catch {
            throw RedirectionError(.kernel, "cannot read which connections are open", cause: error.description)
        }
    }

    /// Those without a mark of the mesh whose other end is not in this namespace: a captured connection's is ztunnel's.
    static func uncaptured(_ sockets: [SocketEntry], others: [SocketEntry]) -> [SocketEntry] {
        struct Ends: Hashable {
            let local: Endpoint
            let remote: Endpoint
        }
        let here = Set(others.map { Ends(local: $0.local, remote: $0.remote) })
        return sockets.filter { socket in
            guard (socket.mark ?? 0) & Mark.mask == 0 else { return false }
            return !here.contains(Ends(local: socket.remote, remote: socket.local))
        }
    }
}
