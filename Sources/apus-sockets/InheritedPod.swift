import Glibc
import Handover
import LinuxNetwork

/// A pod as it came from the keeper before: every descriptor looked at before it is believed. Letting go of it closes
/// copies and does nothing to the sockets.
final class InheritedPod {
    let description: KeeperPod
    let namespace: SharedNamespace
    let dualStack: Bool
    /// None where a ztunnel that makes its own is in charge.
    private(set) var listeners: [Listener] = []
    private(set) var dnsListeners: [Listener] = []
    let stock: StockPair
    let datagramStock: StockPair?

    /// - Throws: A sentence that names the descriptor that is not what it should be.
    init(_ kept: KeptPod, _ packet: inout Packet, home: NamespaceID) throws {
        guard kept.descriptors.count == packet.descriptors.count else {
            throw Refusal("\(kept.descriptors.count) descriptors are announced, \(packet.descriptors.count) came")
        }
        description = kept.pod
        var sorted = Sorted()
        for kind in kept.descriptors {
            if let descriptor = packet.takeDescriptor() { try sorted.put(kind, descriptor) }
        }
        namespace = SharedNamespace(try NetworkNamespace(owning: try sorted.takeOne(.namespace)))
        let id = namespace.value.id
        guard id.inode == kept.pod.netnsInode else {
            throw Refusal("the namespace is \(id), not \(kept.pod.netnsInode)")
        }
        guard id != home else { throw Refusal("\(id) is the node's own network namespace, not a pod's") }
        let here = try namespace.run {
            let probe = try Sockets.tcp(dualStack: false)
            return (try Sockets.namespaceCookie(probe.raw), Sockets.kernelHasIPv6)
        }
        dualStack = kept.pod.dualStack && here.1

        stock = try sorted.takePair(.stockSource, .stock, target: kept.stockTarget)
        let hasDatagrams = sorted.has(.stockDatagram) || sorted.has(.stockDatagramSource)
        guard hasDatagrams == kept.pod.dns else { throw Refusal("a stock of UDP sockets without DNS, or none with it") }
        datagramStock =
            hasDatagrams
            ? try sorted.takePair(.stockDatagramSource, .stockDatagram, target: kept.datagramTarget) : nil

        if Pod.ports.contains(where: { sorted.has($0.0) }) {
            listeners = try Pod.ports.map { kind, port in
                let listener = Listener(kind, try sorted.takeOne(kind))
                try Self.check(listener, port, cookie: here.0)
                guard try Sockets.domain(listener.socket.raw) == (dualStack ? AF_INET6 : AF_INET) else {
                    throw Refusal("the listener on \(port) is of another address family than the pod")
                }
                return listener
            }
        }
        for kind in kept.descriptors where kind == .listenerDNSUDP || kind == .listenerDNSTCP {
            let listener = Listener(kind, try sorted.take(kind))
            try Self.check(listener, ZtunnelPort.dns, cookie: here.0)
            dnsListeners.append(listener)
        }
        try sorted.expectEmpty()
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

    /// The descriptors of a packet by what they are said to be.
    private struct Sorted: ~Copyable {
        private var open: [(kind: HandoverDescriptor, raw: CInt)] = []

        deinit { for (_, raw) in open { _ = close(raw) } }

        mutating func put(_ kind: HandoverDescriptor, _ descriptor: consuming FileDescriptor) throws {
            open.append((kind, descriptor.release()))
        }

        func has(_ kind: HandoverDescriptor) -> Bool { open.contains { $0.kind == kind } }

        mutating func take(_ kind: HandoverDescriptor) throws -> FileDescriptor {
            guard let index = open.firstIndex(where: { $0.kind == kind }) else {
                throw Refusal("a descriptor of kind \(kind.rawValue) is missing")
            }
            return FileDescriptor(owning: open.remove(at: index).raw)
        }

        mutating func takeOne(_ kind: HandoverDescriptor) throws -> FileDescriptor {
            guard open.count(where: { $0.kind == kind }) == 1 else {
                throw Refusal("not exactly one descriptor of kind \(kind.rawValue)")
            }
            return try take(kind)
        }

        mutating func takePair(
            _ source: HandoverDescriptor, _ far: HandoverDescriptor, target: UInt32
        ) throws -> StockPair {
            let first = SeqpacketSocket(owning: try takeOne(source))
            let second = SeqpacketSocket(owning: try takeOne(far))
            for raw in [first.raw, second.raw] {
                guard try Sockets.domain(raw) == AF_UNIX, try Sockets.type(raw) == CInt(SOCK_SEQPACKET.rawValue) else {
                    throw Refusal("an end of a stock is no SEQPACKET socket")
                }
            }
            return StockPair(SeqpacketSocket.Pair(first: first, second: second), target: Int(target))
        }

        func expectEmpty() throws {
            guard let left = open.first else { return }
            throw Refusal("a descriptor of kind \(left.kind.rawValue) that this keeper does not expect")
        }
    }
}
