import Glibc

/// What the application has said before the peer answered.
///
/// A client that is captured is connected before its CONNECT is even asked, so its first bytes are often there by then.
/// They go along with the request and save a round trip (RFC 9113 section 8.5 lets DATA follow the request). Until the
/// answer they are only looked at: they stay in the application's socket, so another tunnel can carry them as well,
/// and a refusal has consumed nothing.
extension HBONEStream {
    /// What fits into one TLS record with the request in front of it.
    private static let earlyLimit = 12 * 1024

    /// Sends a copy of what the application's socket holds now; nothing is waited for.
    func sendEarly() {
        guard earlySource >= 0, let connection else { return }
        let source = earlySource
        earlySource = -1
        let room = min(Self.earlyLimit, connection.http2.sendRoom(id))
        guard room > 0 else { return }
        withUnsafeTemporaryAllocation(byteCount: room, alignment: 16) { buffer in
            let count = recv(source, buffer.baseAddress, room, CInt(MSG_PEEK) | CInt(MSG_DONTWAIT))
            // Nothing there, or nothing to be had: whoever reads the socket later finds out.
            guard count > 0 else { return }
            earlyCount = count
            connection.http2.control.append(connection.http2.data(id, count, end: false))
            connection.http2.control.append(contentsOf: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
    }

    /// Whether the peer may have the application's first bytes although it has not answered.
    public var hasSentEarly: Bool { earlyCount > 0 }

    /// The answer is there: takes what was sent early out of the socket.
    /// - Returns: Whether it was still there; an application that has reset its connection has taken it along.
    func dropEarly() -> Bool {
        guard earlyCount > 0 else { return true }
        let count = earlyCount
        earlyCount = 0
        let dropped = withUnsafeTemporaryAllocation(byteCount: count, alignment: 16) { buffer in
            recv(descriptor, buffer.baseAddress, count, CInt(MSG_DONTWAIT))
        }
        guard dropped == count else { return false }
        bytesToTunnel += UInt64(count)
        meter?.toTunnel(count)
        return true
    }
}
