import Addressing
import LinuxNetwork
import Netlink

@testable import Redirection

/// A guest of a pod, such as a virtual machine in it: a namespace whose only way out is an interface of the pod's, which
/// forwards what the guest sends.
final class Guest: Sendable {
    let namespace: NetworkNamespace

    /// The pod's side of the pair.
    static let interface = "net1"

    static func address(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? IPAddress(10, 88, 0, 2) : IPAddress(v6High: 0xfd88_0000_0000_0000, low: 2)
    }

    static func gateway(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? IPAddress(10, 88, 0, 1) : IPAddress(v6High: 0xfd88_0000_0000_0000, low: 1)
    }

    /// - Parameter addressed: whether the pod's side has addresses of its own, on which a listener can be reached.
    init(of network: Network, addressed: Bool = true) throws {
        let guest = try NetworkNamespace.make()
        let descriptor = guest.raw
        try network.pod.run {
            var routes = try RouteSocket()
            try routes.createPair(Self.interface, peer: "eth0", peerNamespace: descriptor)
            try KernelSetting(path: "/proc/sys/net/ipv4/ip_forward").write("1")
            try KernelSetting(path: "/proc/sys/net/ipv6/conf/all/forwarding").write("1")
            try Self.bring(up: Self.interface, address: addressed ? { Self.gateway($0) } : nil, &routes)
        }
        try guest.run {
            var routes = try RouteSocket()
            try Self.bring(up: "eth0", address: { Self.address($0) }, &routes)
            let link = try routes.link(named: "eth0")
            for family in IPAddress.Family.allCases {
                // Without an address the pod's side answers for everybody, in IPv4.
                let gateway: IPAddress? = addressed ? Self.gateway(family) : nil
                let scope: Route.Scope = family == .v4 && gateway == nil ? .link : .universe
                let route = Route(to: Route.everywhere(family), via: gateway, interface: link?.index, scope: scope)
                try routes.add(route)
            }
        }
        try network.world.run {
            var routes = try RouteSocket()
            for family in IPAddress.Family.allCases {
                let block = CIDR(Self.address(family), length: family == .v4 ? 24 : 64)
                guard let block else { continue }
                try routes.add(Route(to: block, via: Network.podAddress(family), scope: .universe))
            }
        }
        // The first packet that is forwarded over IPv6 would wait a second for the pod's link-local address to be tried;
        // one of the pod's own has the neighbour looked up at once.
        for family in IPAddress.Family.allCases {
            try DatagramSocket(family, in: network.pod).send([0], to: Endpoint(Network.worldAddress(family), 9))
        }
        namespace = guest
    }

    private static func bring(
        up name: String, address: ((IPAddress.Family) -> IPAddress)?, _ routes: inout RouteSocket
    ) throws {
        guard let link = try routes.link(named: name) else { throw Judge.Problem(text: "no \(name)") }
        try routes.setUp(link.index)
        guard let address else { return }
        for family in IPAddress.Family.allCases {
            try routes.add(
                InterfaceAddress(address(family), prefixLength: family == .v4 ? 24 : 64, interface: link.index))
            if family == .v6 { try Network.waitForOwnRoute(address(family)) }
        }
    }
}
