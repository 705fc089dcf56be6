import Addressing
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

@Suite("The ruleset, read back by libnftables", .serialized)
struct RulesetTests {
    private let raw = """
        \tchain raw-output {
        \t\ttype filter hook output priority raw; policy accept;
        \t\tmeta mark & 0x00000fff == 0x00000111 counter notrack accept comment "apus 2: replies to ztunnel"
        \t\toifname "lo" meta mark & 0x00000fff == 0x00000539 tcp sport != 15001 tcp sport != 15006 \
        tcp sport != 15053 counter notrack meta mark set meta mark & 0xfffff111 | 0x00000111 \
        comment "apus 2: mark what ztunnel opens to the app"
        \t}

        """

    private func table(prerouting: [String], output: [String]) -> String {
        func chain(_ name: String, _ priority: String, _ rules: [String]) -> String {
            let body = rules.map { "\t\t\($0)\n" }.joined()
            return "\n\tchain \(name) {\n\t\ttype nat hook \(name.dropFirst(4)) priority \(priority); "
                + "policy accept;\n\(body)\t}\n"
        }
        return
            "table inet apus {\n\tcomment \"apus 2 tcp_loose=1 fwmark_accept=0 fwmark_reflect=0 fwmark_reflect6=0\"\n"
            + raw
            + chain("nat-prerouting", "dstnat", prerouting) + chain("nat-output", "-100", output) + "}\n"
    }

    private let probeIn4 = #"ip saddr 169.254.7.127 meta l4proto tcp counter accept comment "apus 2: probes come in""#
    private let probeIn6 =
        "ip6 saddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp counter accept "
        + #"comment "apus 2: probes come in""#
    private let inbound4 =
        "ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0x00000fff != 0x00000539 counter "
        + #"redirect to :15006 comment "apus 2: capture inbound""#
    private let inbound6 =
        "ip6 daddr != ::1 tcp dport != 15008 meta mark & 0x00000fff != 0x00000539 counter "
        + #"redirect to :15006 comment "apus 2: capture inbound""#
    private let probeOut4 =
        #"ip daddr 169.254.7.127 meta l4proto tcp counter accept comment "apus 2: replies to probes""#
    private let probeOut6 =
        "ip6 daddr fd16:9254:7127:1337:ffff:ffff:ffff:ffff meta l4proto tcp counter accept "
        + #"comment "apus 2: replies to probes""#
    private let own4 =
        #"ip daddr != 127.0.0.1 oifname "lo" counter accept comment "apus 2: the pod's own addresses""#
    private let own6 = #"ip6 daddr != ::1 oifname "lo" counter accept comment "apus 2: the pod's own addresses""#
    private let outbound4 =
        "ip daddr != 127.0.0.1 meta l4proto tcp meta mark & 0x00000fff != 0x00000539 counter "
        + #"redirect to :15001 comment "apus 2: capture outbound""#
    private let outbound6 =
        "ip6 daddr != ::1 meta l4proto tcp meta mark & 0x00000fff != 0x00000539 counter "
        + #"redirect to :15001 comment "apus 2: capture outbound""#
    private let leaving =
        #"ct state new counter accept comment "apus 2: leaving: new connections are not captured""#

    private func ruleset(_ plan: RedirectionPlan, leaving: Bool = false) async throws -> String {
        try await onThread {
            let pod = try NetworkNamespace.make()
            try NftablesBackend().apply(plan, in: pod)
            if leaving { try NftablesBackend().leave(plan, in: pod) }
            return try Judge.ruleset(pod)
        }
    }

    @Test("both families")
    func bothFamilies() async throws {
        let expected = table(
            prerouting: [probeIn4, probeIn6, inbound4, inbound6],
            output: [probeOut4, probeOut6, own4, own6, outbound4, outbound6])
        #expect(try await ruleset(RedirectionPlan()) == expected)
    }

    @Test("IPv4 alone")
    func ipv4() async throws {
        let expected = table(
            prerouting: [probeIn4, inbound4], output: [probeOut4, own4, outbound4])
        #expect(try await ruleset(RedirectionPlan(families: [.v4])) == expected)
    }

    @Test("without inbound capture")
    func bypass() async throws {
        let expected = table(
            prerouting: [], output: [probeOut4, probeOut6, own4, own6, outbound4, outbound6])
        #expect(try await ruleset(RedirectionPlan(capturesInbound: false)) == expected)
    }

    @Test("leaving")
    func leave() async throws {
        let expected = table(prerouting: [leaving], output: [leaving])
        #expect(try await ruleset(RedirectionPlan(), leaving: true) == expected)
    }

    @Test("the rules that nft makes from its own language are the ones we make")
    func sameBytecode() async throws {
        let pair = try await onThread { () -> [Nftables.Table?] in
            let ours = try NetworkNamespace.make()
            try NftablesBackend().apply(RedirectionPlan(), in: ours)
            let text = try Judge.ruleset(ours)
            let theirs = try NetworkNamespace.make()
            _ = try Judge.nft(text, in: theirs)
            let name = RedirectionTable.name
            func read() throws -> Nftables.Table? {
                var socket = try NftablesSocket()
                return try socket.table(name)
            }
            return [try ours.run { try read() }, try theirs.run { try read() }]
        }
        #expect(pair[0]?.chains == RedirectionTable.chains(RedirectionPlan(), .capturing))
        let reordered = pair[1]?.chains.map { chain in
            chain.rules.map { Set($0.expressions.map { "\($0)" }) }
        }
        let expected = pair[0]?.chains.map { chain in chain.rules.map { Set($0.expressions.map { "\($0)" }) } }
        #expect(reordered == expected)
    }
}
