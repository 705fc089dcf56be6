import Addressing
import Foundation
import Glibc
import LinuxNetwork
import Netlink

@testable import Redirection

/// A node with two pods on one bridge, and a machine elsewhere that reaches the pods through the node.
///
///     target, other --- br0 [ node ] eth0 --- elsewhere
final class ProbeNode: Sendable {
    let node: NetworkNamespace
    let target: NetworkNamespace
    let other: NetworkNamespace
    let elsewhere: NetworkNamespace

    static func address(_ family: IPAddress.Family, _ network: UInt8, _ host: UInt8) -> IPAddress {
        family == .v4
            ? IPAddress(10, network, 0, host)
            : IPAddress(v6High: 0xfd00_0000_0000_0000 | UInt64(network) << 32, low: UInt64(host))
    }

    static func targetAddress(_ family: IPAddress.Family) -> IPAddress { address(family, 78, 2) }
    static func otherAddress(_ family: IPAddress.Family) -> IPAddress { address(family, 78, 3) }
    /// The node's on the pods' bridge, from which it speaks to them.
    static func bridgeAddress(_ family: IPAddress.Family) -> IPAddress { address(family, 78, 1) }
    static func nodeAddress(_ family: IPAddress.Family) -> IPAddress { address(family, 79, 1) }
    static func elsewhereAddress(_ family: IPAddress.Family) -> IPAddress { address(family, 79, 2) }

    init() throws {
        let node = try NetworkNamespace.make()
        let target = try NetworkNamespace.make()
        let other = try NetworkNamespace.make()
        let elsewhere = try NetworkNamespace.make()
        let (one, two, three) = (target.raw, other.raw, elsewhere.raw)
        try node.run {
            var routes = try RouteSocket()
            try routes.createBridge("br0")
            guard let bridge = try routes.link(named: "br0") else { throw Judge.Problem(text: "no br0") }
            for (name, descriptor) in [("pod0", one), ("pod1", two)] {
                try routes.createPair(name, peer: "eth0", peerNamespace: descriptor)
                guard let port = try routes.link(named: name) else { throw Judge.Problem(text: "no \(name)") }
                try routes.setMaster(port.index, to: bridge.index)
                try routes.setUp(port.index)
            }
            try routes.createPair("eth0", peer: "eth0", peerNamespace: three)
            try KernelSetting(path: "/proc/sys/net/ipv4/ip_forward").write("1")
            try KernelSetting(path: "/proc/sys/net/ipv6/conf/all/forwarding").write("1")
            // Otherwise the rules for IP see the bridge's frames, and those for bridges would not be needed.
            for family in ["", "6"] {
                let setting = KernelSetting(path: "/proc/sys/net/bridge/bridge-nf-call-ip\(family)tables")
                if setting.read() != nil { try setting.write("0") }
            }
        }
        try Self.configure(node, ["br0": { Self.address($0, 78, 1) }, "eth0": { Self.address($0, 79, 1) }], via: nil)
        try Self.configure(target, ["eth0": Self.targetAddress], via: Self.bridgeAddress)
        try Self.configure(other, ["eth0": Self.otherAddress], via: Self.bridgeAddress)
        try Self.configure(elsewhere, ["eth0": Self.elsewhereAddress], via: Self.nodeAddress)
        self.node = node
        self.target = target
        self.other = other
        self.elsewhere = elsewhere
    }

    private static func configure(
        _ namespace: borrowing NetworkNamespace, _ links: [String: (IPAddress.Family) -> IPAddress],
        via gateway: ((IPAddress.Family) -> IPAddress)?
    ) throws {
        try namespace.run {
            var routes = try RouteSocket()
            try routes.setUp(1)
            for (name, address) in links {
                guard let link = try routes.link(named: name) else { throw Judge.Problem(text: "no \(name)") }
                try routes.setUp(link.index)
                for family in IPAddress.Family.allCases {
                    try routes.add(
                        InterfaceAddress(
                            address(family), prefixLength: family == .v4 ? 24 : 64, interface: link.index))
                    if family == .v6 { try Network.waitForOwnRoute(address(family)) }
                    guard let gateway else { continue }
                    try routes.add(
                        Route(
                            to: Route.everywhere(family), via: gateway(family), interface: link.index,
                            scope: .universe))
                }
            }
        }
    }

    /// What the node's rules are about to hold for the target.
    static func plan(_ sender: HostProbePlan.Sender, ports: Set<UInt16> = [8080]) -> HostProbePlan {
        HostProbePlan(sender, destinations: [targetAddress(.v4): ports, targetAddress(.v6): ports])
    }

    func apply(_ plan: HostProbePlan) throws { try node.run { _ = try HostProbeRules.apply(plan) } }

    /// How many packets the target's rule for probes of a family has let in.
    func exempted(_ family: IPAddress.Family) throws -> Int {
        let listing = try Judge.nft("list chain inet apus nat-prerouting", in: target, counters: true)
        return listing.split(separator: "\n").filter {
            $0.contains("probes come in") && $0.contains(RedirectionPlan.probeAddress(family).description)
        }.compactMap { line in
            line.split(separator: " ").drop { $0 != "packets" }.dropFirst().first.flatMap { Int($0) }
        }.reduce(0, +)
    }
}

/// A cgroup of a test's, for threads, so that one thread can make sockets in it while the process stays where it is.
final class TestCgroup {
    let path: String
    let cgroup: SocketCgroup

    private static var root: String {
        access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup"
    }

    init(_ name: String, beneath parent: TestCgroup? = nil) throws {
        let folder = parent?.path ?? Self.root
        let path =
            folder + (parent == nil ? "/apus-test-\(getpid())-\(name)-\(UInt32.random(in: 0 ... .max))" : "/\(name)")
        try check("make \(path)") { mkdir(path, 0o755) }
        try Self.write("threaded", path + "/cgroup.type")
        var info = stat()
        try check("stat \(path)") { stat(path, &info) }
        let level = UInt32(path.dropFirst(Self.root.count).split(separator: "/").count)
        guard let cgroup = SocketCgroup(id: UInt64(info.st_ino), level: level) else {
            throw Judge.Problem(text: "\(path) is the root")
        }
        self.cgroup = cgroup
        self.path = path
    }

    deinit { rmdir(path) }

    /// Runs `body` with the calling thread in the cgroup.
    func run<Value>(_ body: () throws -> Value) throws -> Value {
        try Self.write("0", path + "/cgroup.threads")
        defer {
            do { try Self.write("0", Self.root + "/cgroup.threads") } catch { fatalError("\(error)") }
        }
        return try body()
    }

    private static func write(_ text: String, _ path: String) throws {
        let file = FileDescriptor(owning: try check("open \(path)") { open(path, O_WRONLY | O_CLOEXEC) })
        let raw = file.raw
        try check("write \(path)") { CInt(Glibc.write(raw, text, text.utf8.count)) }
    }
}
