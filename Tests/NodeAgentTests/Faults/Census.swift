import Addressing
import Glibc
import LinuxNetwork
import Netlink

@testable import NodeAgent

/// What a process has open, counted by what it is: the same before and after means that nothing leaked.
struct DescriptorCensus: Equatable, CustomStringConvertible {
    private let kinds: [String: Int]

    init(of pid: pid_t) throws {
        var kinds: [String: Int] = [:]
        for target in try Self.targets(of: pid).values {
            // "socket:[4711]" and "net:[4711]" by their kind, files by their path.
            kinds[String(target.prefix { $0 != "[" }), default: 0] += 1
        }
        self.kinds = kinds
    }

    var count: Int { kinds.values.reduce(0, +) }

    /// The namespaces among them.
    static func namespaces(of pid: pid_t) throws -> Set<UInt64> {
        Set(try targets(of: pid).values.compactMap { $0.hasPrefix("net:[") ? UInt64($0.dropFirst(5).dropLast()) : nil })
    }

    /// The lowest number that no descriptor has.
    static func lowestFree(of pid: pid_t) throws -> Int {
        let open = try targets(of: pid)
        var number = 0
        while open[number] != nil { number += 1 }
        return number
    }

    private static func targets(of pid: pid_t) throws -> [Int: String] {
        let folder = "/proc/\(pid)/fd"
        guard let listing = opendir(folder) else { throw SystemError("read \(folder)") }
        defer { closedir(listing) }
        var targets: [Int: String] = [:]
        while let entry = readdir(listing) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let number = Int(name) else { continue }
            var buffer = [UInt8](repeating: 0, count: 256)
            let length = readlink("\(folder)/\(name)", &buffer, buffer.count)
            // Closed since it was listed.
            guard length > 0 else { continue }
            targets[number] = String(decoding: buffer.prefix(length), as: UTF8.self)
        }
        return targets
    }

    var description: String { kinds.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ") }
}

/// All that capture could leave in a pod's namespace: tables, rules, routes, places for programs, sockets, settings.
struct NamespaceCensus: Equatable, CustomStringConvertible {
    private let lines: Set<String>

    private static let settings = [
        "ipv4/tcp_fwmark_accept", "ipv4/conf/all/route_localnet", "ipv4/conf/lo/route_localnet",
        "ipv4/conf/all/rp_filter", "ipv4/conf/lo/accept_local", "ipv4/conf/all/accept_local",
        "netfilter/nf_conntrack_tcp_loose",
    ]

    init(_ pod: FakePod) throws {
        lines = try pod.namespace.value.run {
            var lines: Set<String> = []
            var nftables = try NftablesSocket()
            for table in try nftables.tables(.inet) + nftables.tables(.bridge) { lines.insert("table \(table.name)") }
            var routes = try RouteSocket()
            for family in IPAddress.Family.allCases {
                for rule in try routes.rules(family) { lines.insert("\(rule)") }
                for route in try routes.routes(family) { lines.insert("\(route)") }
            }
            for discipline in try routes.disciplines() where discipline.isAttachmentPoint {
                lines.insert("\(discipline.kind) on interface \(discipline.interface)")
            }
            var diagnostics = try SocketDiagnostics()
            for socket in try diagnostics.tcpSockets(in: [.listening]) { lines.insert("listener \(socket.local)") }
            for setting in Self.settings {
                guard let value = try AtomicFile.read("/proc/sys/net/\(setting)") else { continue }
                lines.insert("\(setting)=\(String(decoding: value, as: UTF8.self))")
            }
            return lines
        }
    }

    var description: String { lines.sorted().joined(separator: "\n") }
}
