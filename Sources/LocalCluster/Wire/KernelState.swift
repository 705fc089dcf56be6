import Foundation
import Glibc
import LinuxNetwork

/// What is in force in a network namespace, as the system's own programs and files show it: to be compared with itself
/// at another time.
public struct KernelState: Sendable, Hashable {
    /// By name: the ruleset, the places of classifiers, policy rules and routes of both families, kernel parameters, sockets.
    public let parts: [String: String]

    /// Parameters that capture changes.
    private static let parameters = [
        "net/netfilter/nf_conntrack_tcp_loose", "net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect",
        "net/ipv6/fwmark_reflect",
    ]

    public init(namespace: String) throws {
        var parts: [String: String] = [:]
        // Stateless: counters move without anything having changed.
        parts["ruleset"] = try Command.run("nft", "--stateless", "list", "ruleset", in: namespace)
        parts["disciplines"] = try Command.run("tc", "qdisc", "show", in: namespace)
        for family in ["-4", "-6"] {
            parts["rules \(family)"] = try Command.run("ip", family, "rule", "list", in: namespace)
            parts["routes \(family)"] = Self.routes(
                try Command.run("ip", family, "route", "list", "table", "all", in: namespace))
        }
        try NetworkNamespace(path: namespace).run { () throws in
            for name in Self.parameters { parts[name] = Files.text("/proc/sys/\(name)") ?? "absent" }
            parts["listeners"] = Self.listeners()
            parts["sockets"] = Self.settledSocketCount()
        }
        self.parts = parts
    }

    /// What differs, each with what it was and what it is.
    public func differences(to later: KernelState) -> [String] {
        Set(parts.keys).union(later.parts.keys).sorted().compactMap { name in
            let before = parts[name] ?? ""
            let after = later.parts[name] ?? ""
            if before == after { return nil }
            let old = Set(before.split(separator: "\n"))
            let new = Set(after.split(separator: "\n"))
            let gone = old.subtracting(new).sorted().map { "-\($0)" }
            let come = new.subtracting(old).sorted().map { "+\($0)" }
            return "\(name): \((gone + come).joined(separator: " "))"
        }
    }

    /// Without what ages by itself: the remaining lifetimes of learnt routes, and the order of multicast entries.
    private static func routes(_ text: String) -> String {
        text.split(separator: "\n").filter { !$0.contains("expires") }.sorted().joined(separator: "\n")
    }

    /// TCP ports that are listened on, with the address as the kernel writes it.
    private static func listeners() -> String {
        ["tcp", "tcp6"].flatMap { table in
            (Files.text("/proc/thread-self/net/\(table)") ?? "").split(separator: "\n").dropFirst().compactMap { line in
                let fields = line.split(separator: " ")
                return fields.count > 3 && fields[3] == "0A" ? "\(table) \(fields[1])" : nil
            }
        }.sorted().joined(separator: "\n")
    }

    /// All sockets of the namespace, those without an address included: the first line of sockstat, `sockets: used N`.
    /// Closed ones, such as those of the programs just run, are freed a moment later: so the count is read until it has
    /// been the same for a tenth of a second.
    private static func settledSocketCount() -> String {
        func now() -> String {
            (Files.text("/proc/thread-self/net/sockstat") ?? "").split(separator: "\n").first.map(String.init) ?? ""
        }
        var last = now()
        var same = 0
        for _ in 0..<100 where same < 5 {
            Waiting.pause(.milliseconds(20))
            let count = now()
            same = count == last ? same + 1 : 0
            last = count
        }
        return last
    }
}
