import Glibc
import Handover
import LinuxNetwork

/// A pod's listeners as they came from elsewhere, from the keeper before or from the agent that keeps copies for it:
/// each looked at before it is believed. Letting go of them closes copies and does nothing to the sockets.
struct InheritedListeners {
    /// None where a ztunnel that makes its own is in charge.
    let captured: [Listener]
    let dns: [Listener]

    /// - Throws: A sentence that names the descriptor that is not what it should be.
    init(_ sorted: inout SortedDescriptors, of pod: KeeperPod, in namespace: SharedNamespace) throws {
        let (cookie, dualStack) = try namespace.run {
            let probe = try Sockets.tcp(dualStack: false)
            return (try Sockets.namespaceCookie(probe.raw), pod.dualStack && Sockets.kernelHasIPv6)
        }
        var captured: [Listener] = []
        if Pod.ports.contains(where: { sorted.has($0.0) }) {
            for (kind, port) in Pod.ports {
                let listener = Listener(kind, try sorted.takeOne(kind))
                try Self.check(listener, port, cookie: cookie)
                guard try Sockets.domain(listener.socket.raw) == (dualStack ? AF_INET6 : AF_INET) else {
                    throw Refusal("the listener on \(port) is of another address family than the pod")
                }
                captured.append(listener)
            }
        }
        var dns: [Listener] = []
        for kind in sorted.kinds where kind == .listenerDNSUDP || kind == .listenerDNSTCP {
            let listener = Listener(kind, try sorted.take(kind))
            try Self.check(listener, ZtunnelPort.dns, cookie: cookie)
            dns.append(listener)
        }
        self.captured = captured
        self.dns = dns
    }

    private static func check(_ listener: Listener, _ port: UInt16, cookie: UInt64) throws {
        let raw = listener.socket.raw
        let type = listener.kind == .listenerDNSUDP ? SOCK_DGRAM : SOCK_STREAM
        let domain = try Sockets.domain(raw)
        guard domain == AF_INET || domain == AF_INET6, try Sockets.type(raw) == CInt(type.rawValue) else {
            throw Refusal("the descriptor for port \(port) is no socket of that kind")
        }
        guard listener.isAlive else { throw Refusal("the socket for port \(port) does not listen") }
        guard let local = Sockets.localEndpoint(raw), local.port == port else {
            throw Refusal("the socket for port \(port) is bound to another")
        }
        guard try Sockets.namespaceCookie(raw) == cookie else {
            throw Refusal("the socket for port \(port) is in another network namespace")
        }
        guard try Sockets.mark(raw) == Mark.ztunnel else {
            throw Refusal("the socket for port \(port) has the mark \(try Sockets.mark(raw))")
        }
        guard try Sockets.isTransparent(raw) else { throw Refusal("the socket for port \(port) is not transparent") }
    }
}
