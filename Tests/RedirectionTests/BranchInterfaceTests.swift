import Addressing
import Glibc
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

/// A node as AWS's plugin sets it up for pods with security groups: what comes from the pod's link, and from its branch
/// interface, is looked up in the pod's own table, before the node's own addresses are; and only that table leads to the pod.
///
///     pod eth0 --- veni0 [ node ] vlan1 --- cloud
private final class BranchNode: Sendable {
    static let table: UInt32 = 101
    let node: NetworkNamespace
    let pod: NetworkNamespace
    let cloud: NetworkNamespace

    static func podAddress(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? IPAddress(10, 91, 0, 5) : IPAddress(v6High: 0xfd00_0091_0000_0000, low: 5)
    }

    private static func gateway(_ family: IPAddress.Family) -> IPAddress {
        family == .v4 ? IPAddress(169, 254, 1, 1) : IPAddress(v6High: 0xfe80_0000_0000_0000, low: 1)
    }

    init() throws {
        let node = try NetworkNamespace.make()
        let pod = try NetworkNamespace.make()
        let cloud = try NetworkNamespace.make()
        let (inPod, inCloud) = (pod.raw, cloud.raw)
        try node.run {
            var routes = try RouteSocket()
            try routes.createPair("veni0", peer: "eth0", peerNamespace: inPod)
            try routes.createPair("vlan1", peer: "eth0", peerNamespace: inCloud)
        }
        for namespace in [pod.raw, cloud.raw] {
            try NetworkNamespace(path: "/proc/self/fd/\(namespace)").run {
                var routes = try RouteSocket()
                for name in ["lo", "eth0"] {
                    try routes.setUp(try #require(try routes.link(named: name)).index)
                }
            }
        }
        try node.run { try Self.configureNode() }
        try pod.run {
            var routes = try RouteSocket()
            let link = try #require(try routes.link(named: "eth0")).index
            for family in IPAddress.Family.allCases {
                let (address, gateway) = (Self.podAddress(family), Self.gateway(family))
                try routes.add(InterfaceAddress(address, prefixLength: address.bitWidth, interface: link))
                if family == .v4 { try routes.add(Route(to: CIDR(gateway), interface: link)) }
                if family == .v6 { try Network.waitForOwnRoute(address) }
                try routes.add(
                    Route(to: Route.everywhere(family), via: gateway, interface: link, scope: .universe))
            }
        }
        self.node = node
        self.pod = pod
        self.cloud = cloud
    }

    private static func configureNode() throws {
        try KernelSetting(path: "/proc/sys/net/ipv4/tcp_early_demux").write("0")
        var routes = try RouteSocket()
        func up(_ name: String) throws -> UInt32 {
            let link = try #require(try routes.link(named: name))
            try routes.setUp(link.index)
            return link.index
        }
        let (lo, veni, vlan) = (try up("lo"), try up("veni0"), try up("vlan1"))
        for family in IPAddress.Family.allCases {
            // What the node gives probes as their source; here it is an address of its own.
            let probe = RedirectionPlan.probeAddress(family)
            try routes.add(InterfaceAddress(probe, prefixLength: probe.bitWidth, interface: lo))
            try routes.add(
                InterfaceAddress(gateway(family), prefixLength: family == .v4 ? 32 : 64, interface: veni))
            if family == .v6 { for address in [probe, gateway(family)] { try Network.waitForOwnRoute(address) } }
            // The node's own way out is not the pod's.
            try routes.add(Route(to: Route.everywhere(family), interface: vlan, scope: .link))
            try routes.add(Route(to: CIDR(podAddress(family)), interface: veni, table: table))
            try routes.add(Route(to: CIDR(probe), interface: vlan, table: table))
            for name in ["vlan1", "veni0"] {
                try routes.add(PolicyRule(family, priority: 10, inputInterface: name, table: table))
            }
            try routes.add(PolicyRule(family, priority: 20, table: Route.localTable))
            try routes.delete(PolicyRule(family, priority: 0, table: Route.localTable))
        }
    }

    /// A probe, from the address that the node gives it.
    func probeArrives(_ family: IPAddress.Family) throws -> Bool {
        let listener = try Listener(Endpoint(any(family), 8080), in: pod)
        let stream = try Stream(family: family, in: node)
        let dualStack = family == .v6
        try Sockets.bind(stream.fd, to: Endpoint(RedirectionPlan.probeAddress(family), 0), dualStack: dualStack)
        do {
            let target = Endpoint(Self.podAddress(family), 8080)
            if try !Sockets.connect(stream.fd, to: target, dualStack: dualStack) {
                var entry = pollfd(fd: stream.fd, events: Int16(POLLOUT), revents: 0)
                guard poll(&entry, 1, 500) == 1, Sockets.pendingError(stream.fd) == 0 else { return false }
            }
        } catch { return false }
        try stream.exchange(with: listener.accept().stream)
        return true
    }

    func rules(_ family: IPAddress.Family) throws -> [PolicyRule] {
        try node.run {
            var routes = try RouteSocket()
            return try routes.rules(family)
        }
    }

    @discardableResult
    func apply(_ addresses: [IPAddress]) throws -> [Drift] {
        try node.run { try BranchInterfaceRules.apply(addresses) }
    }
}

@Suite("Pods on AWS's branch interfaces", .serialized)
struct BranchInterfaceTests {
    @Test("probes reach them by two rules, and do not without either", arguments: IPAddress.Family.allCases)
    func probes(family: IPAddress.Family) async throws {
        try await onThread {
            let branch = try BranchNode()
            #expect(try branch.node.run { BranchInterfaceRules.isPlatform() })
            let before = try branch.rules(family)
            #expect(try !branch.probeArrives(family))
            let address = BranchNode.podAddress(family)
            #expect(try branch.apply([address]) == [.policyRuleMissing(family), .policyRuleMissing(family)])
            #expect(try branch.probeArrives(family))
            let ours = try branch.rules(family).filter { !before.contains($0) }
            #expect(
                Set(ours) == [
                    PolicyRule(family, priority: 512, destination: CIDR(address), table: BranchNode.table),
                    PolicyRule(family, priority: 9, inputInterface: "veni0", table: Route.localTable),
                ])
            #expect(try branch.apply([address]).isEmpty)

            for rule in ours {
                try branch.node.run {
                    var routes = try RouteSocket()
                    try routes.delete(rule)
                }
                #expect(try !branch.probeArrives(family), "\(rule)")
                #expect(try branch.apply([address]) == [.policyRuleMissing(family)])
                #expect(try branch.probeArrives(family))
            }
            // The pod is over, or not probed any more.
            #expect(try branch.apply([]).isEmpty)
            #expect(try branch.rules(family) == before)
        }
    }

    @Test("when the pod's link has gone, what was made for it goes, and rules of others stay")
    func linkGone() async throws {
        try await onThread {
            let branch = try BranchNode()
            let foreign = [
                // What AWS's plugin has for ordinary pods, and what somebody else may have.
                PolicyRule(.v4, priority: 512, destination: CIDR(IPAddress(10, 91, 0, 9)), table: Route.mainTable),
                PolicyRule(
                    .v4, priority: 512, destination: CIDR(IPAddress(10, 92, 0, 0), length: 16), table: BranchNode.table),
                PolicyRule(.v4, priority: 30, inputInterface: "vlan1", table: Route.localTable),
                PolicyRule(.v4, priority: 40, mark: 1, mask: 1, inputInterface: "veni0", table: Route.localTable),
            ]
            try branch.node.run {
                var routes = try RouteSocket()
                for rule in foreign { try routes.add(rule) }
            }
            try branch.apply([BranchNode.podAddress(.v4), IPAddress(10, 91, 0, 9)])
            try branch.node.run {
                var routes = try RouteSocket()
                let link = try #require(try routes.link(named: "veni0"))
                try routes.deleteLink(link.index)
                // As the plugin takes its own rule away.
                try routes.delete(
                    PolicyRule(.v4, priority: 10, inputInterface: "veni0", table: BranchNode.table))
            }
            try branch.apply([IPAddress(10, 91, 0, 9)])
            let left = try branch.rules(.v4)
            #expect(foreign.allSatisfy(left.contains))
            #expect(!left.contains { $0.priority == 9 })
            #expect(!left.contains { $0.destination == CIDR(BranchNode.podAddress(.v4)) })
        }
    }

    @Test("an ordinary node gets no rules")
    func ordinary() async throws {
        try await onThread {
            let network = try Network()
            let rules = try network.world.run {
                #expect(!BranchInterfaceRules.isPlatform())
                var routes = try RouteSocket()
                let before = try routes.rules(.v4)
                #expect(try BranchInterfaceRules.apply([Network.podAddress(.v4)]).isEmpty)
                return (before, try routes.rules(.v4))
            }
            #expect(rules.0 == rules.1)
        }
    }
}
