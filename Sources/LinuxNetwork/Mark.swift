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

/// The ports of ztunnel in a pod.
public enum ZtunnelPort {
    public static let outbound: UInt16 = 15001
    public static let inboundPlaintext: UInt16 = 15006
    public static let hbone: UInt16 = 15008
    public static let dns: UInt16 = 15053
    /// SOCKS5, on loopback, where it is asked for.
    public static let socks: UInt16 = 15080
}
