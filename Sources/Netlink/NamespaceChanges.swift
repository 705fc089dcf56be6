import CLinux
import CMnl
import Glibc
import LinuxNetwork

/// Hears of changes to nf_tables, policy rules, routes, links and traffic control in all network namespaces that the one
/// it was opened in has a number for (``RouteSocket/number(of:)``), with one pair of sockets.
///
/// Only that something changed is told, not what: whoever wants to know reads the kernel's state.
public struct NamespaceChanges: ~Copyable, Sendable {
    /// Where something changed.
    public enum Place: Hashable, Sendable {
        /// In the namespace of this number.
        case namespace(Int32)
        /// In the namespace the sockets were opened in.
        case own
        /// The kernel had more to say than the sockets hold: anything may have changed anywhere.
        case anywhere
    }

    private let route: FileDescriptor
    private let netfilter: FileDescriptor

    /// Opens the sockets in the calling thread's namespace, which needs CAP_NET_BROADCAST over the others.
    public init() throws(NetlinkError) {
        let groups = [Group.links, .trafficControl, .routesV4, .rulesV4, .routesV6, .rulesV6].map(\.rawValue)
        let route = try Self.open(.route, groups: groups)
        let netfilter = try Self.open(.netfilter, groups: [7])
        self.route = route
        self.netfilter = netfilter
    }

    /// The descriptors to wait for.
    public var descriptors: [CInt] { [route.raw, netfilter.raw] }

    /// The kernel's numbers of multicast groups (`RTNLGRP_…`).
    private enum Group: CInt {
        case links = 1
        case trafficControl = 4
        case routesV4 = 7
        case rulesV4 = 8
        case routesV6 = 11
        case rulesV6 = 19
    }

    private enum Option {
        static let level: CInt = 270
        static let addMembership: CInt = 1
        static let listenEverywhere: CInt = 8
    }

    private static func open(
        _ bus: NetlinkSocket.Bus, groups: [CInt]
    ) throws(NetlinkError) -> FileDescriptor {
        func checked(_ operation: String, _ body: () -> CInt) throws(NetlinkError) -> CInt {
            let result = body()
            guard result >= 0 else { throw NetlinkError(operation: operation, code: errno) }
            return result
        }
        let descriptor = FileDescriptor(
            owning: try checked("open netlink socket") {
                socket(AF_NETLINK, CInt(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), bus.rawValue)
            })
        let raw = descriptor.raw
        func set(_ level: CInt, _ option: CInt, _ value: CInt) -> CInt {
            var value = value
            return setsockopt(raw, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
        }
        // Without a name of its own the kernel takes it for the one who made each change, who is not told.
        var address = sockaddr_nl()
        address.nl_family = sa_family_t(AF_NETLINK)
        _ = try checked("bind netlink socket") {
            withUnsafeBytes(of: &address) {
                bind(raw, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
            }
        }
        // Beyond the system's limit where that is allowed; what does not fit is told as ``Place/anywhere``.
        if set(SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20) != 0 { _ = set(SOL_SOCKET, SO_RCVBUF, 1 << 20) }
        _ = try checked("hear of other namespaces") { set(Option.level, Option.listenEverywhere, 1) }
        for group in groups {
            _ = try checked("join netlink group \(group)") { set(Option.level, Option.addMembership, group) }
        }
        return descriptor
    }

    /// Takes all that the sockets hold, without waiting.
    public borrowing func take() -> Set<Place> {
        var places: Set<Place> = []
        // Room for the largest message the kernel sends; a longer one is cut, and where it comes from is known all the same.
        withUnsafeTemporaryAllocation(byteCount: 32 * 1024, alignment: 8) { buffer in
            for descriptor in descriptors {
                while true {
                    var number: Int32 = -1
                    let count = apus_receive_netlink(descriptor, buffer.baseAddress, buffer.count, &number)
                    if count >= 0 {
                        places.insert(number < 0 ? .own : .namespace(number))
                    } else if errno == ENOBUFS {
                        places.insert(.anywhere)
                    } else if errno != EINTR {
                        break
                    }
                }
            }
        }
        return places
    }
}

extension RouteSocket {
    private enum NamespaceNumber {
        static let new: UInt16 = 88
        static let get: UInt16 = 90
        static let number = 1
        static let descriptor = 3
    }

    /// The number by which this socket's namespace knows another one; it is given one where it has none yet. The number
    /// is the namespace's for as long as it lives, and may be another's after that.
    public mutating func number(of namespace: borrowing NetworkNamespace) throws(NetlinkError) -> Int32 {
        let operation = "number a network namespace"
        if let number = try askNumber(of: namespace, operation) { return number }
        var writer = AttributeWriter()
        writer.header([0, 0, 0, 0])
        writer.put(NamespaceNumber.number, u32: UInt32(bitPattern: -1))
        writer.put(NamespaceNumber.descriptor, u32: UInt32(namespace.raw))
        do throws(NetlinkError) {
            try socket.request(NetlinkSocket.Message(type: NamespaceNumber.new, body: writer.bytes), operation)
        } catch {
            // Somebody else was faster.
            guard error.code == EEXIST else { throw error }
        }
        guard let number = try askNumber(of: namespace, operation) else { throw .malformed(operation) }
        return number
    }

    private mutating func askNumber(
        of namespace: borrowing NetworkNamespace, _ operation: String
    ) throws(NetlinkError) -> Int32? {
        var writer = AttributeWriter()
        writer.header([0, 0, 0, 0])
        writer.put(NamespaceNumber.descriptor, u32: UInt32(namespace.raw))
        let answer = try socket.ask(NetlinkSocket.Message(type: NamespaceNumber.get, body: writer.bytes), operation)
        guard let value = Attributes(answer.dropFirst(4)).u32(NamespaceNumber.number) else {
            throw .malformed(operation)
        }
        let number = Int32(bitPattern: value)
        return number < 0 ? nil : number
    }
}
