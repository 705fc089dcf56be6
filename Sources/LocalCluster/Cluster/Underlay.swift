import Addressing
import Foundation
import Glibc
import LinuxNetwork
import Netlink

/// The namespaces of a run and the bridge that joins them. Nothing of it is in the machine's own namespace.
struct Underlay {
    let layout: RunLayout
    let nodes: Int

    /// Who is on the bridge.
    enum Member: Hashable {
        case controller
        case node(Int)

        /// The end of its addresses.
        var host: Int {
            switch self {
            case .controller: RunLayout.controllerHost
            case .node(let index): RunLayout.nodeHost(index)
            }
        }

        /// The bridge's port to it.
        var port: String {
            switch self {
            case .controller: "m0"
            case .node(let index): "m\(index)"
            }
        }
    }

    private static let bridge = "br0"

    func build() throws {
        try makeBridge()
        try join(.controller)
        for index in 1...nodes { try join(.node(index)) }
    }

    func makeBridge() throws {
        try Self.add(layout.underlay)
        try Self.inside(layout.underlay) { routes in
            try routes.createBridge(Self.bridge)
            try routes.setUp(Self.index(of: Self.bridge, &routes))
        }
    }

    /// Makes a member's namespace, joins it to the bridge, and tells it the way to the nodes' pods.
    func join(_ member: Member) throws {
        let name = name(member)
        try Self.add(name)
        let namespace = try NetworkNamespace(path: RunLayout.namespacePath(name))
        let descriptor = namespace.raw
        try Self.inside(layout.underlay) { routes in
            try routes.createPair(member.port, peer: LocalNode.uplink, peerNamespace: descriptor)
            let port = try Self.index(of: member.port, &routes)
            try routes.setMaster(port, to: Self.index(of: Self.bridge, &routes))
            try routes.setUp(port)
        }
        try Self.inside(name) { routes in
            let uplink = try Self.index(of: LocalNode.uplink, &routes)
            try routes.add(
                InterfaceAddress(
                    Self.address(RunLayout.underlayV4(member.host)), prefixLength: 24, interface: uplink))
            try routes.add(
                InterfaceAddress(
                    Self.address(RunLayout.underlayV6(member.host)), prefixLength: 64, interface: uplink))
            try routes.setUp(uplink)
            for route in try podRoutes(of: member) { try routes.add(route) }
        }
        if case .node = member {
            try Self.set(
                ["net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"],
                in: RunLayout.namespacePath(name))
        }
    }

    private func name(_ member: Member) -> String {
        switch member {
        case .controller: layout.controller
        case .node(let index): layout.nodeNamespace(index)
        }
    }

    /// A node reaches the other nodes' pods through those nodes.
    private func podRoutes(of member: Member) throws -> [Route] {
        guard case .node(let own) = member else { return [] }
        return try (1...nodes).filter { $0 != own }.flatMap { other in
            let gateway = RunLayout.nodeHost(other)
            return [
                Route(
                    to: try Self.block(RunLayout.podsV4(other)),
                    via: try Self.address(RunLayout.underlayV4(gateway))),
                Route(
                    to: try Self.block(RunLayout.podsV6(other)),
                    via: try Self.address(RunLayout.underlayV6(gateway))),
            ]
        }
    }

    // MARK: Steps

    /// Makes a named namespace with its loopback up.
    static func add(_ name: String) throws {
        try NamedNamespace.make(name)
        // The loopback is the first interface of every namespace.
        try inside(name) { try $0.setUp(1) }
    }

    private static func inside(_ name: String, _ body: (inout RouteSocket) throws -> Void) throws {
        try NetworkNamespace(path: RunLayout.namespacePath(name)).run { () throws in
            var routes = try RouteSocket()
            try body(&routes)
        }
    }

    private static func index(of name: String, _ routes: inout RouteSocket) throws -> UInt32 {
        guard let link = try routes.link(named: name) else {
            throw LocalClusterError(.environment, "the interface \(name) is not there after it was made")
        }
        return link.index
    }

    private static func address(_ text: String) throws -> IPAddress {
        guard let address = IPAddress(text) else { throw LocalClusterError(.environment, "\(text) is no address") }
        return address
    }

    private static func block(_ text: String) throws -> CIDR {
        guard let block = CIDR(text) else { throw LocalClusterError(.environment, "\(text) is no block of addresses") }
        return block
    }

    /// Sets kernel parameters of a namespace.
    static func set(_ values: [String: String], in namespace: String) throws {
        try NetworkNamespace(path: namespace).run { () throws in
            for (name, value) in values {
                // /proc/sys/net is that of the thread that opens it.
                let file = FileDescriptor(
                    owning: try check("open \(name)") { open("/proc/sys/\(name)", O_WRONLY | O_CLOEXEC) })
                _ = try check("set \(name)") {
                    Array(value.utf8).withUnsafeBytes { write(file.raw, $0.baseAddress, $0.count) }
                }
            }
        }
    }
}
