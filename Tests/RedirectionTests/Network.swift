import Addressing
import Foundation
import LinuxNetwork
import Netlink

@testable import Redirection

/// A pod's namespace and one that stands for the rest of the world, joined by a veth pair.
final class Network: Sendable {
    let pod: NetworkNamespace
    let world: NetworkNamespace

    static func podAddress(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? IPAddress(10, 77, 0, 2) : IPAddress(v6High: 0xfd77_0000_0000_0000, low: 2)
    }

    static func worldAddress(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? IPAddress(10, 77, 0, 1) : IPAddress(v6High: 0xfd77_0000_0000_0000, low: 1)
    }

    /// An address that nobody has: what is sent there arrives only when it is captured.
    static func serviceAddress(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? IPAddress(10, 96, 0, 10) : IPAddress(v6High: 0xfd96_0000_0000_0000, low: 10)
    }

    init(ipv6: Bool = true) throws {
        let pod = try NetworkNamespace.make()
        let world = try NetworkNamespace.make()
        if !ipv6 {
            try pod.run {
                for name in ["lo", "all", "default"] {
                    try KernelSetting(path: "/proc/sys/net/ipv6/conf/\(name)/disable_ipv6").write("1")
                }
            }
        }
        let podDescriptor = pod.raw
        try world.run {
            var routes = try RouteSocket()
            try routes.createPair("eth0", peer: "eth0", peerNamespace: podDescriptor)
        }
        try Self.configure(world, Self.worldAddress, probes: true, ipv6: ipv6)
        try Self.configure(pod, Self.podAddress, probes: false, ipv6: ipv6)
        try pod.run {
            var routes = try RouteSocket()
            for family in IPAddress.Family.allCases where family == .v4 || ipv6 {
                let link = try routes.link(named: "eth0")
                try routes.add(
                    Route(
                        to: Route.everywhere(family), via: Self.worldAddress(family), interface: link?.index,
                        scope: .universe))
            }
        }
        self.pod = pod
        self.world = world
    }

    private static func configure(
        _ namespace: borrowing NetworkNamespace, _ address: (IPAddress.Family) -> IPAddress, probes: Bool, ipv6: Bool
    ) throws {
        try namespace.run {
            var routes = try RouteSocket()
            for name in ["lo", "eth0"] {
                guard let link = try routes.link(named: name) else { throw Judge.Problem(text: "no \(name)") }
                try routes.setUp(link.index)
                guard name == "eth0" else { continue }
                for family in IPAddress.Family.allCases where family == .v4 || ipv6 {
                    try routes.add(
                        InterfaceAddress(
                            address(family), prefixLength: family == .v4 ? 24 : 64, interface: link.index))
                    if family == .v6 { try waitForOwnRoute(address(family)) }
                    guard probes else { continue }
                    let probe = RedirectionPlan.probeAddress(family)
                    try routes.add(InterfaceAddress(probe, prefixLength: probe.bitWidth, interface: link.index))
                }
            }
        }
    }
}

extension Network {
    /// The kernel adds the route of an own IPv6 address a moment after the address, on a thread of its own. Until then
    /// the address is somebody else's.
    static func waitForOwnRoute(_ address: IPAddress) throws {
        let start = address.bytes.map { String(format: "%02x", $0) }.joined() + " 80 "
        let isLocal: UInt32 = 0x8000_0000
        for _ in 0..<1000 {
            let routes = try String(contentsOfFile: "/proc/thread-self/net/ipv6_route", encoding: .utf8)
            for route in routes.split(separator: "\n") where route.hasPrefix(start) {
                let fields = route.split(separator: " ")
                if fields.count > 8, let flags = UInt32(fields[8], radix: 16), flags & isLocal != 0 { return }
            }
            poll(nil, 0, 5)
        }
        throw Judge.Problem(text: "no route of its own for \(address) within 5 s")
    }
}

/// A TCP socket with bounded waits; non-blocking underneath, so one thread can play all parts.
final class Stream {
    let descriptor: FileDescriptor
    private let dualStack: Bool

    init(family: IPAddress.Family, in namespace: borrowing NetworkNamespace) throws {
        dualStack = family == .v6
        descriptor = try namespace.run { try Sockets.tcp(dualStack: family == .v6) }
    }

    init(accepted descriptor: consuming FileDescriptor) {
        self.descriptor = descriptor
        dualStack = false
    }

    var fd: CInt { descriptor.raw }

    func connect(to endpoint: Endpoint) throws {
        if try !Sockets.connect(fd, to: endpoint, dualStack: dualStack) { try finishConnecting() }
    }

    func finishConnecting() throws {
        try wait(Int16(POLLOUT), "connect")
        let error = Sockets.pendingError(fd)
        guard error == 0 else { throw SystemError("connect", code: error) }
    }

    /// Where the connection wanted to go, as ztunnel finds it out.
    var wanted: Endpoint? { Sockets.originalDestination(fd) ?? Sockets.localEndpoint(fd) }

    func send(_ text: String) throws {
        let bytes = Array(text.utf8)
        guard Glibc.send(fd, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count else {
            throw SystemError("send")
        }
    }

    func receive(_ count: Int) throws -> String {
        var received: [UInt8] = []
        while received.count < count {
            try wait(Int16(POLLIN), "receive")
            var buffer = [UInt8](repeating: 0, count: count - received.count)
            let got = recv(fd, &buffer, buffer.count, 0)
            if got < 0 { throw SystemError("receive") }
            if got == 0 { break }
            received += buffer[..<got]
        }
        return String(decoding: received, as: UTF8.self)
    }

    /// Sends on one end and takes it off the other, then the other way.
    func exchange(with other: Stream, _ text: String = "hello") throws {
        try send(text)
        let there = try other.receive(text.utf8.count)
        try other.send(there)
        guard try receive(text.utf8.count) == text else { throw Judge.Problem(text: "bytes were changed") }
    }

    private func wait(_ events: Int16, _ what: String) throws {
        var entry = pollfd(fd: fd, events: events, revents: 0)
        guard poll(&entry, 1, 3000) > 0 else { throw SystemError("\(what) on \(fd)", code: ETIMEDOUT) }
    }
}

/// A listener with a bounded accept.
final class Listener {
    let descriptor: FileDescriptor

    init(
        _ endpoint: Endpoint, in namespace: borrowing NetworkNamespace, ztunnel: Bool = false
    ) throws {
        let v6 = !endpoint.address.isV4
        descriptor = try namespace.run {
            let socket = try Sockets.tcp(dualStack: v6)
            try Sockets.setReuseAddress(socket.raw)
            if ztunnel {
                try Sockets.setMark(socket.raw, Mark.ztunnel)
                try Sockets.seal(socket.raw)
                try Sockets.setTransparent(socket.raw)
            }
            try Sockets.bind(socket.raw, to: endpoint, dualStack: v6)
            try Sockets.listen(socket.raw, backlog: 16)
            return socket
        }
    }

    func accept() throws -> (stream: Stream, peer: Endpoint?) {
        var entry = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, 3000) > 0, let accepted = try Sockets.accept(descriptor.raw) else {
            throw SystemError("accept", code: ETIMEDOUT)
        }
        let peer = accepted.peer
        return (Stream(accepted: accepted.takeDescriptor()), peer)
    }

    var hasConnection: Bool {
        var entry = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, 0) > 0
    }
}

/// The unspecified address, to listen on all.
func any(_ family: IPAddress.Family) -> IPAddress { family == .v4 ? .anyV4 : .anyV6 }

/// The listeners that the keeper would hold, and a fake ztunnel's hands.
struct FakeZtunnel {
    let outbound: Listener
    let inbound: Listener
    let hbone: Listener

    init(_ family: IPAddress.Family, in pod: borrowing NetworkNamespace) throws {
        outbound = try Listener(Endpoint(any(family), ZtunnelPort.outbound), in: pod, ztunnel: true)
        inbound = try Listener(Endpoint(any(family), ZtunnelPort.inboundPlaintext), in: pod, ztunnel: true)
        hbone = try Listener(Endpoint(any(family), ZtunnelPort.hbone), in: pod, ztunnel: true)
    }

    /// A connection of ztunnel's own, in the client's name where one is given.
    static func dial(
        _ endpoint: Endpoint, as client: IPAddress? = nil, in pod: borrowing NetworkNamespace
    ) throws -> Stream {
        let stream = try Stream(family: endpoint.address.family, in: pod)
        try Sockets.setMark(stream.fd, Mark.ztunnel)
        try Sockets.seal(stream.fd)
        if let client {
            try Sockets.setTransparent(stream.fd)
            try Sockets.bind(stream.fd, to: Endpoint(client, 0), dualStack: !client.isV4)
        }
        try stream.connect(to: endpoint)
        return stream
    }
}

private final class Work {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
}

/// Runs a test's body on a thread of its own: it blocks and changes namespaces, which the shared pool's threads
/// must not.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        let work = Unmanaged.passRetained(Work { continuation.resume(with: Result(catching: body)) })
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { pointer in
                guard let pointer else { return nil }
                Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue().run()
                return nil
            }, work.toOpaque())
        if result == 0 {
            pthread_detach(thread)
        } else {
            work.release()
            continuation.resume(throwing: SystemError("pthread_create", code: result))
        }
    }
}
