/// The packet marks of Istio's ambient mode, which rules and sockets must agree on.
public enum Mark {
    /// On every socket of ztunnel in a pod (1337): its packets are not captured again.
    public static let ztunnel: UInt32 = 0x539
    /// On replies of the app to connections that ztunnel made in the client's name: they go back to ztunnel over lo.
    public static let inbound: UInt32 = 0x111
    /// On sockets whose connections are left alone, where capture is by eBPF: those that were open before it began, and
    /// what comes in uncaptured.
    public static let direct: UInt32 = 0x53a
    public static let mask: UInt32 = 0xfff
}

/// What tells the proxy's own sockets from others that have its mark.
///
/// A mark is set with CAP_NET_RAW, which containers have by default; and nothing of what else CAP_NET_RAW cannot set comes
/// with a packet. But the programs of capture see the packet's socket, and in it this option, SO_BUSY_POLL_BUDGET, which takes
/// CAP_NET_ADMIN of the machine, goes on to accepted sockets, stays when a socket is handed over, and does nothing as
/// long as the socket does not busy-poll.
public enum Seal {
    /// Below the budget that the kernel's drivers have anyway (64), for nodes that switch busy polling on.
    public static let value: UInt16 = 61
}

/// The ports of ztunnel in a pod.
public enum ZtunnelPort {
    public static let outbound: UInt16 = 15001
    public static let inboundPlaintext: UInt16 = 15006
    public static let hbone: UInt16 = 15008
    public static let dns: UInt16 = 15053
    /// SOCKS5, on loopback, where it is asked for.
    public static let socks: UInt16 = 15080
}
