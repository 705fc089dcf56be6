import Glibc
import LinuxNetwork

/// Whether sockets can be sealed here (``LinuxNetwork/Seal``).
enum SealProbe {
    /// Seals a socket. Does not block.
    static func problem() -> RedirectionError? {
        do {
            let socket = try Sockets.tcp(dualStack: false)
            try Sockets.seal(socket.raw)
            return nil
        } catch {
            return RedirectionError(
                .unsupported, "the proxy's sockets cannot be told from others with its mark", cause: "\(error)",
                hint: error.code == EPERM
                    ? "the agent needs CAP_NET_ADMIN of the machine, not of a user namespace"
                    : "Linux 5.11 or later with CONFIG_NET_RX_BUSY_POLL")
        }
    }
}
