import Addressing
import Glibc
import Handover
import LinuxNetwork

/// A socket on which ztunnel is reached in a pod. Closed with the last reference.
final class Listener {
    let kind: HandoverDescriptor
    let socket: FileDescriptor

    init(_ kind: HandoverDescriptor, _ socket: consuming FileDescriptor) {
        self.kind = kind
        self.socket = socket
    }

    /// Whether nobody who has a copy has shut it down.
    var isAlive: Bool {
        guard kind == .listenerDNSUDP else { return Sockets.isListening(socket.raw) }
        var entry = pollfd(fd: socket.raw, events: 0, revents: 0)
        return poll(&entry, 1, 0) >= 0 && entry.revents & Int16(POLLHUP) == 0
    }

    func shutDown() { Sockets.shutDown(socket.raw) }
}

/// The sockets on 15053. On the loopback addresses alone: redirection leads there, and nobody outside of the pod can ask.
/// With ztunnel's mark, by which capture without translation knows whom to hand queries to.
enum DNSListeners {
    /// Makes them in the calling thread's namespace. ::1 is done without where it cannot be had (IPv6 off on lo).
    static func make(dualStack: Bool) throws(SystemError) -> [Listener] {
        let made = [
            Listener(.listenerDNSUDP, try datagram(.loopbackV4)), Listener(.listenerDNSTCP, try stream(.loopbackV4)),
        ]
        guard dualStack else { return made }
        do {
            return made + [
                Listener(.listenerDNSUDP, try datagram(.loopbackV6)),
                Listener(.listenerDNSTCP, try stream(.loopbackV6)),
            ]
        } catch {
            guard error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT else { throw error }
            return made
        }
    }

    private static func datagram(_ address: IPAddress) throws(SystemError) -> FileDescriptor {
        try PodSockets.dnsDatagram(on: address, PodSockets.Options(dualStack: !address.isV4))
    }

    private static func stream(_ address: IPAddress) throws(SystemError) -> FileDescriptor {
        try PodSockets.dnsListener(on: address, PodSockets.Options(dualStack: !address.isV4))
    }
}
