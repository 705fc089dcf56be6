import Addressing
import Glibc

/// A TCP socket as the kernel lists it (sock_diag).
public struct SocketEntry: Hashable, Sendable {
    /// The states of RFC 9293 by the kernel's numbers.
    public enum State: UInt8, Sendable, CaseIterable {
        case established = 1
        case synSent = 2
        case synReceived = 3
        case finWait1 = 4
        case finWait2 = 5
        case timeWait = 6
        case closed = 7
        case closeWait = 8
        case lastAck = 9
        case listening = 10
        case closing = 11
        case newSynReceived = 12
    }

    public let state: State
    /// Canonical: an IPv4 connection of a dual-stack socket is listed as IPv4.
    public let local: Endpoint
    public let remote: Endpoint
    /// 0 when no process holds it any more.
    public let inode: UInt32
    /// The mark of its packets; `nil` without CAP_NET_ADMIN.
    public let mark: UInt32?
    /// Names this very socket to the kernel, with the cookie that no other has: `struct inet_diag_sockid`, behind the
    /// family as listed.
    let identity: [UInt8]
    /// Names the socket for as long as the machine runs.
    public let cookie: UInt64
}

/// Lists the sockets of a network namespace.
public struct SocketDiagnostics: ~Copyable {
    private var socket: NetlinkSocket

    public init() throws(NetlinkError) {
        socket = try NetlinkSocket(.socketDiagnostics)
    }

    /// All TCP sockets in one of the states, of both families.
    ///
    /// The kernel goes through the connections of the whole machine for it, whoever's they are: some milliseconds where its
    /// table is large. ``listenersAlone()`` costs a fraction of that.
    public mutating func tcpSockets(in states: Set<SocketEntry.State>) throws(NetlinkError) -> [SocketEntry] {
        let mask = states.reduce(UInt32(0)) { $0 | 1 << UInt32($1.rawValue) }
        // TCPDIAG_GETSOCK with struct inet_diag_req: no family, no extensions, an empty socket id (48 bytes), states, 0. It
        // is the older request, and the only one that lists both families in one go.
        let body = Array(repeating: UInt8(0), count: 52) + mask.nativeBytes + UInt32(0).nativeBytes
        var found: [SocketEntry] = []
        try socket.dump(
            NetlinkSocket.Message(type: 18, body: body), "list TCP sockets", reset: { found = [] },
            each: { _, body in if let entry = Self.decode(body) { found.append(entry) } })
        return found
    }

    /// The listeners of the calling thread's namespace when it has no other TCP socket with a place in the kernel's tables;
    /// `nil` when it has, or may have. Half-open connections to a listener are not among what is looked at.
    public mutating func listenersAlone() throws(NetlinkError) -> [SocketEntry]? {
        guard let before = SocketCounts.read(), before.finished == 0 else { return nil }
        let listeners = try tcpSockets(in: [.listening])
        // Once more: one that came and one that went in between are no proof.
        guard listeners.count == before.inUse, SocketCounts.read() == before else { return nil }
        return listeners
    }

    /// Ends a connection: the process that holds it sees ECONNABORTED, its peer a reset. One that is over already is no
    /// error; the socket's cookie keeps a later one with the same addresses from being meant.
    /// - Throws: EOPNOTSUPP where the kernel is built without CONFIG_INET_DIAG_DESTROY.
    public mutating func destroy(_ entry: SocketEntry) throws(NetlinkError) {
        let states = UInt32.max
        let body = [entry.identity[0], 6, 0, 0] + states.nativeBytes + entry.identity.dropFirst()
        do throws(NetlinkError) {
            try socket.request(
                NetlinkSocket.Message(type: 21, body: body), "end the connection \(entry.local) to \(entry.remote)")
        } catch {
            guard error.code == ENOENT else { throw error }
        }
    }

    private static func decode(_ body: ArraySlice<UInt8>) -> SocketEntry? {
        // struct inet_diag_msg, 72 bytes.
        guard body.count >= 72 else { return nil }
        let bytes = Array(body.prefix(72))
        guard let state = SocketEntry.State(rawValue: bytes[1]) else { return nil }
        let width = bytes[0] == 2 ? 4 : 16
        guard let local = IPAddress(bytes: bytes[8..<(8 + width)]),
            let remote = IPAddress(bytes: bytes[24..<(24 + width)])
        else { return nil }
        func port(_ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
        return SocketEntry(
            state: state, local: Endpoint(local, port(4)).canonical, remote: Endpoint(remote, port(6)).canonical,
            inode: UInt32(native: bytes[68...]) ?? 0, mark: Attributes(body.dropFirst(72)).u32(15),
            identity: [bytes[0]] + bytes[4..<52], cookie: UInt64(native: bytes[44...]) ?? 0)
    }
}
