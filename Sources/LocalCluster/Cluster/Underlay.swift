import Foundation
import Glibc
import LinuxNetwork

/// The namespaces of a run and the bridge that joins them. Nothing of it is in the machine's own namespace.
struct Underlay {
    let layout: RunLayout
    let nodes: Int

    func build() throws {
        let members =
            [(layout.controller, RunLayout.controllerHost)]
            + (1...nodes).map { (layout.nodeNamespace($0), RunLayout.nodeHost($0)) }
        for name in [layout.underlay] + members.map(\.0) { try Self.add(name) }
        var bridge = ["link add br0 type bridge", "link set br0 up"]
        for (port, member) in members.enumerated() {
            bridge.append("link add m\(port) type veth peer name up0 netns \(member.0)")
            bridge.append("link set m\(port) master br0 up")
        }
        try Self.batch(bridge, in: layout.underlay)
        for (name, host) in members {
            var lines = [
                "addr add \(RunLayout.underlayV4(host))/24 dev up0",
                // Nobody else can have the address; waiting for that to be proven would only take time.
                "addr add \(RunLayout.underlayV6(host))/64 dev up0 nodad",
                "link set up0 up",
            ]
            for index in 1...nodes where RunLayout.nodeHost(index) != host && host != RunLayout.controllerHost {
                let gateway = RunLayout.nodeHost(index)
                lines.append("route add \(RunLayout.podsV4(index)) via \(RunLayout.underlayV4(gateway))")
                lines.append("route add \(RunLayout.podsV6(index)) via \(RunLayout.underlayV6(gateway))")
            }
            try Self.batch(lines, in: name)
        }
        for index in 1...nodes {
            try Self.set(
                ["net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"],
                in: RunLayout.namespacePath(layout.nodeNamespace(index)))
        }
    }

    /// Makes a named namespace with its loopback up.
    static func add(_ name: String) throws {
        try Command.run("ip", "netns", "add", name)
        try Command.run("ip", "-n", name, "link", "set", "lo", "up")
    }

    static func batch(_ lines: [String], in namespace: String) throws {
        try Command.run("ip", "-n", namespace, "-batch", "-", input: lines.joined(separator: "\n") + "\n")
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
