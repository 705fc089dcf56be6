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
        counter notrack meta mark set meta mark & 0xfffff111 | 0x00000111 \
        comment "apus 2: mark what ztunnel opens to the app"
        \t}

        """

    private let questions =
        "\t\tudp dport 53 meta mark & 0x00000fff == 0x00000539 counter ct zone set 1 "
        + "comment \"apus 2: ztunnel's questions to name servers\"\n\t}\n"
    private var rawWithDNS: String {
        raw.replacing("!= 15006 counter", with: "!= 15006 tcp sport != 15053 counter")
            .replacing("\t}\n", with: questions)
    }
    private let answers = """

        \tchain raw-prerouting {
        \t\ttype filter hook prerouting priority raw; policy accept;
        \t\tudp sport 53 meta mark & 0x00000fff != 0x00000539 counter ct zone set 1 \
        comment "apus 2: name servers' answers to ztunnel"
        \t}

        """

    private func datagrams(_ family: String) -> String {
        "meta nfproto \(family) oifname != \"lo\" udp dport 53 meta mark & 0x00000fff != 0x00000539 "
            + "@th,80,8 & 0xf8 == 0x0 counter redirect to :15053 comment \"apus 2: capture DNS over UDP\""
    }

    private func streams(_ loopback: String) -> String {
        "\(loopback) tcp dport 53 meta mark & 0x00000fff != 0x00000539 counter redirect to :15053 "
            + "comment \"apus 2: capture DNS over TCP\""
    }

    private func table(prerouting: [String], output: [String], dns: Bool = false) -> String {
        func chain(_ name: String, _ priority: String, _ rules: [String]) -> String {
            let body = rules.map { "\t\t\($0)\n" }.joined()
            return "\n\tchain \(name) {\n\t\ttype nat hook \(name.dropFirst(4)) priority \(priority); "
                + "policy accept;\n\(body)\t}\n"
        }
        return
            "table inet apus {\n\tcomment \"apus 2 tcp_loose=1 fwmark_accept=0 fwmark_reflect=0 fwmark_reflect6=0\"\n"
            + (dns ? rawWithDNS : raw)
            + chain("nat-prerouting", "-199", prerouting) + chain("nat-output", "-199", output)
            + (dns ? answers : "") + "}\n"
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
            prerouting: [inbound4, inbound6],
            output: [own4, own6, outbound4, outbound6])
        #expect(try await ruleset(RedirectionPlan()) == expected)
    }

    @Test("probes to every port, as Istio has it")
    func probesToEveryPort() async throws {
        let expected = table(
            prerouting: [probeIn4, probeIn6, inbound4, inbound6],
            output: [probeOut4, probeOut6, own4, own6, outbound4, outbound6])
        #expect(try await ruleset(RedirectionPlan(exemptsEveryProbePort: true)) == expected)
    }

    @Test("probes to the ports that the pod names, each once and in order")
    func probesToPorts() async throws {
        func incoming(_ rule: String, _ port: Int) -> String {
            rule.replacing("meta l4proto tcp", with: "tcp dport \(port)")
        }
        func outgoing(_ rule: String, _ port: Int) -> String {
            rule.replacing("meta l4proto tcp", with: "tcp sport \(port)")
        }
        let expected = table(
            prerouting: [
                incoming(probeIn4, 80), incoming(probeIn4, 8080), incoming(probeIn6, 80), incoming(probeIn6, 8080),
                inbound4, inbound6,
            ],
            output: [
                outgoing(probeOut4, 80), outgoing(probeOut4, 8080), outgoing(probeOut6, 80),
                outgoing(probeOut6, 8080), own4, own6, outbound4, outbound6,
            ])
        #expect(try await ruleset(RedirectionPlan(probePorts: [8080, 80, 8080])) == expected)
    }

    @Test("IPv4 alone")
    func ipv4() async throws {
        let expected = table(
            prerouting: [inbound4], output: [own4, outbound4])
        #expect(try await ruleset(RedirectionPlan(families: [.v4])) == expected)
    }

    @Test("without inbound capture")
    func bypass() async throws {
        let expected = table(
            prerouting: [], output: [own4, own6, outbound4, outbound6])
        #expect(try await ruleset(RedirectionPlan(capturesInbound: false)) == expected)
    }

    @Test("leaving")
    func leave() async throws {
        let expected = table(prerouting: [leaving], output: [leaving])
        #expect(try await ruleset(RedirectionPlan(), leaving: true) == expected)
    }

    @Test("with DNS")
    func dns() async throws {
        let expected = table(
            prerouting: [inbound4, inbound6],
            output: [own4, own6, datagrams("ipv4"), datagrams("ipv6")]
                + [streams("ip daddr != 127.0.0.1"), streams("ip6 daddr != ::1"), outbound4, outbound6], dns: true)
        #expect(try await ruleset(RedirectionPlan(capturesDNS: true)) == expected)
    }

    @Test("leaving with DNS: questions under way are still told apart")
    func leaveWithDNS() async throws {
        let expected = table(prerouting: [leaving], output: [leaving], dns: true)
        #expect(try await ruleset(RedirectionPlan(capturesDNS: true), leaving: true) == expected)
    }

    @Test("DNS is taken in and left out again without touching the rest; removal leaves nothing")
    func dnsComesAndGoes() async throws {
        let (on, off, none) = try await onThread { () -> (String, String, String) in
            let pod = try NetworkNamespace.make()
            let backend = NftablesBackend()
            try backend.apply(RedirectionPlan(), in: pod)
            try backend.apply(RedirectionPlan(capturesDNS: true), in: pod)
            #expect(try backend.verify(RedirectionPlan(capturesDNS: true), .capturing, in: pod).isEmpty)
            #expect(try !backend.verify(RedirectionPlan(), .capturing, in: pod).isEmpty)
            let on = try Judge.ruleset(pod)
            try backend.apply(RedirectionPlan(), in: pod)
            let off = try Judge.ruleset(pod)
            try backend.apply(RedirectionPlan(capturesDNS: true), in: pod)
            try backend.remove(in: pod)
            return (on, off, try Judge.ruleset(pod))
        }
        #expect(on.contains("15053 comment") && on.contains("zone"))
        #expect(!off.contains("15053 comment") && !off.contains("zone") && off.contains("15001"))
        #expect(none.isEmpty)
    }

    @Test("the rules that nft makes from its own language are the ones we make")
    func sameBytecode() async throws {
        let pair = try await onThread { () -> [Nftables.Table?] in
            let ours = try NetworkNamespace.make()
            try NftablesBackend().apply(RedirectionPlan(capturesDNS: true), in: ours)
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
        #expect(pair[0]?.chains == RedirectionTable.chains(RedirectionPlan(capturesDNS: true), .capturing))
        let reordered = pair[1]?.chains.map { chain in
            chain.rules.map { Set($0.expressions.map { "\($0)" }) }
        }
        let expected = pair[0]?.chains.map { chain in chain.rules.map { Set($0.expressions.map { "\($0)" }) } }
        #expect(reordered == expected)
    }
}
