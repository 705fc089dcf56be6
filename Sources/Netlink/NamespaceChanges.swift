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

    private let route: NetlinkListener
    private let netfilter: NetlinkListener

    /// Opens the sockets in the calling thread's namespace, which needs CAP_NET_BROADCAST over the others.
    public init() throws(SystemError) {
        let groups = [Group.links, .trafficControl, .routesV4, .rulesV4, .routesV6, .rulesV6].map(\.rawValue)
        let route = try NetlinkListener(bus: NetlinkSocket.Bus.route.rawValue, groups: groups)
        let netfilter = try NetlinkListener(
            bus: NetlinkSocket.Bus.netfilter.rawValue, groups: [Self.nftables])
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

    /// NFNLGRP_NFTABLES
    private static let nftables: CInt = 7

    /// Takes all that the sockets hold, without waiting.
    public borrowing func take() -> Set<Place> {
        var places: Set<Place> = []
        func add(_ message: NetlinkListener.Message) {
            switch message {
            case .from(nil): places.insert(.own)
            case .from(let number?): places.insert(.namespace(number))
            case .lost: places.insert(.anywhere)
            }
        }
        while let message = route.next() { add(message) }
        while let message = netfilter.next() { add(message) }
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
