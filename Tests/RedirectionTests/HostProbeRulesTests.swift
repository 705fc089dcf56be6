import Addressing
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

/// The node's rules as libnftables reads them, and their repair.
@Suite("The node's rules for probes", .serialized)
struct HostProbeRulesTests {
    private static let cgroup = SocketCgroup(id: 1, level: 2)
    private static let plan = HostProbePlan(
        .kubelet(cgroup),
        destinations: [IPAddress(10, 0, 0, 1): [80, 8080], IPAddress(v6High: 0xfd << 56, low: 1): [80]])

    private static func verify(_ plan: HostProbePlan, in node: borrowing NetworkNamespace) throws -> [Drift] {
        try node.run { try HostProbeRules.verify(plan) }
    }

    private static func apply(_ plan: HostProbePlan, in node: borrowing NetworkNamespace) throws -> [Drift] {
        try node.run { try HostProbeRules.apply(plan) }
    }

    @Test("both tables, read back by libnftables")
    func listing() async throws {
        let text = try await onThread {
            let node = try NetworkNamespace.make()
            _ = try Self.apply(Self.plan, in: node)
            return try Judge.ruleset(node)
        }
        let v6 = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"
        for line in [
            "type ipv4_addr . inet_service", "elements = { 10.0.0.1 . 80,", "10.0.0.1 . 8080 }",
            "type ipv6_addr . inet_service", "elements = { fd00::1 . 80 }",
            "type filter hook prerouting priority raw; policy accept;",
            "type filter hook output priority 250; policy accept;",
            "type nat hook postrouting priority srcnat - 1; policy accept;",
            #"ip saddr 169.254.7.127 counter drop comment "apus-host 1: nobody arrives as a probe""#,
            #"ip6 saddr \#(v6) counter drop comment "apus-host 1: nobody here sends as a probe""#,
            #"socket cgroupv2 level 3 != 0 counter accept comment "apus-host 1: sockets beneath kubelet's cgroup""#,
            "ip daddr . tcp dport @probes-v4 ct state new socket cgroupv2 level 2 ",
            "ip6 daddr . tcp dport @probes-v6 ct state new socket cgroupv2 level 2 ",
            "snat ip to 169.254.7.127", "snat ip6 to \(v6)", "table bridge apus-host", "table inet apus-host",
        ] {
            #expect(text.contains(line), "\(line) is missing in:\n\(text)")
        }
    }

    @Test("applied again nothing changes, and a plan for nobody leaves nothing")
    func idempotence() async throws {
        try await onThread {
            let node = try NetworkNamespace.make()
            #expect(
                try Self.apply(Self.plan, in: node)
                    == [.hostTableMissing("bridge apus-host"), .hostTableMissing("inet apus-host")])
            #expect(try Self.verify(Self.plan, in: node).isEmpty)
            let before = try Judge.ruleset(node, handles: true)
            #expect(try Self.apply(Self.plan, in: node).isEmpty)
            #expect(try Judge.ruleset(node, handles: true) == before)
            #expect(try Self.apply(HostProbePlan(.kubelet(Self.cgroup)), in: node).count == 2)
            #expect(try Judge.ruleset(node).isEmpty)
            #expect(try Self.apply(HostProbePlan(.kubelet(Self.cgroup)), in: node).isEmpty)
        }
    }

    @Test(
        "what others do to the rules is found and undone",
        arguments: [
            ("delete table inet apus-host", [Drift.hostTableMissing("inet apus-host")]),
            ("delete table bridge apus-host", [.hostTableMissing("bridge apus-host")]),
            ("flush ruleset", [.hostTableMissing("bridge apus-host"), .hostTableMissing("inet apus-host")]),
            (
                "flush chain inet apus-host postrouting",
                [
                    .ruleMissing(chain: "postrouting", rule: "apus-host 1: probes leave"),
                    .ruleMissing(chain: "postrouting", rule: "apus-host 1: probes leave"),
                ]
            ),
            (
                "insert rule bridge apus-host prerouting accept",
                [.ruleUnexpected(chain: "prerouting", rule: "without a comment")]
            ),
            ("delete element inet apus-host probes-v4 { 10.0.0.1 . 80 }", [.setDiffers("probes-v4")]),
            ("add element inet apus-host probes-v6 { fd00::2 . 80 }", [.setDiffers("probes-v6")]),
            ("flush set inet apus-host probes-v4", [.setDiffers("probes-v4")]),
            ("add set inet apus-host more { type ipv4_addr; }", [.setDiffers("more")]),
            ("add chain inet apus-host more", [.chainUnexpected("more")]),
        ])
    func repair(harm: String, expected: [Drift]) async throws {
        try await onThread {
            let node = try NetworkNamespace.make()
            _ = try Self.apply(Self.plan, in: node)
            let whole = try Judge.ruleset(node)
            _ = try Judge.nft(harm, in: node)
            #expect(try Self.verify(Self.plan, in: node) == expected)
            #expect(try Self.apply(Self.plan, in: node) == expected)
            #expect(try Self.verify(Self.plan, in: node).isEmpty)
            #expect(Set(try Judge.ruleset(node).split(separator: "\n")) == Set(whole.split(separator: "\n")))
        }
    }

    @Test("kubelet comes back in another cgroup, or the mode changes: the rules follow")
    func otherPlans() async throws {
        try await onThread {
            let node = try NetworkNamespace.make()
            for sender: HostProbePlan.Sender in [
                .kubelet(Self.cgroup), .kubelet(SocketCgroup(id: 1, level: 1)), .kubelet(nil), .anySocket,
                .kubelet(Self.cgroup),
            ] {
                let plan = HostProbePlan(sender, destinations: Self.plan.destinations)
                #expect(try !Self.apply(plan, in: node).isEmpty)
                #expect(try Self.verify(plan, in: node).isEmpty)
            }
        }
    }

    @Test("a node full of pods fits into one transaction")
    func manyPods() async throws {
        try await onThread {
            let node = try NetworkNamespace.make()
            var plan = HostProbePlan(.kubelet(Self.cgroup))
            for number in 1...500 {
                let ports = Set((0..<6).map { UInt16(8000 + $0) })
                plan.destinations[IPAddress(v4: 0x0a00_0000 + UInt32(number))] = ports
                plan.destinations[IPAddress(v6High: 0xfd << 56, low: UInt64(number))] = ports
            }
            _ = try Self.apply(plan, in: node)
            #expect(try Self.verify(plan, in: node).isEmpty)
            plan.destinations = plan.destinations.filter { $0.key.low % 2 == 0 }
            #expect(Set(try Self.apply(plan, in: node)) == [.setDiffers("probes-v4"), .setDiffers("probes-v6")])
            #expect(try Self.verify(plan, in: node).isEmpty)
        }
    }
}
