import Addressing
import Foundation
import LinuxNetwork
import Testing

@testable import Redirection

@Suite("apus redirect", .serialized)
struct RedirectCommandTests {
    private static func path(_ network: Network) -> String { "/proc/\(getpid())/fd/\(network.pod.raw)" }

    private static func redirect(_ verb: String, _ network: Network, _ options: String...) throws -> ApusProgram {
        try ApusProgram(["redirect", verb, "--netns", path(network)] + options)
    }

    @Test("capture is applied, proven, harmed, told, repaired and taken away")
    func life() async throws {
        let network = try await onThread { try Network() }
        let options = ["--dns", "--virtual-interface", "net1"]
        let plan = RedirectionPlan(capturesDNS: true, virtualInterfaces: ["net1"])
        func run(_ verb: String, _ more: String...) throws -> ApusProgram {
            try ApusProgram(["redirect", verb, "--netns", Self.path(network)] + options + more)
        }
        #expect(try run("verify").status == 1)
        let applied = try run("apply")
        #expect(applied.status == 0, "\(applied.errors)")
        #expect(try await onThread { try NftablesBackend().verify(plan, .capturing, in: network.pod) } == [])
        let whole = try run("verify")
        #expect(whole.status == 0)
        #expect(whole.output.isEmpty)
        try await onThread {
            let ztunnel = try FakeZtunnel(.v4, in: network.pod)
            let app = try Stream(family: .v4, in: network.pod)
            try app.connect(to: Endpoint(Network.serviceAddress(.v4), 80))
            try app.exchange(with: ztunnel.outbound.accept().stream)
        }
        // Other options are another plan.
        let other = try Self.redirect("verify", network)
        #expect(other.status == 1)
        #expect(other.output.contains("chain raw-prerouting is not ours\n"))

        try await onThread { _ = try Judge.nft("flush chain inet apus nat-prerouting", in: network.pod) }
        let harmed = try run("verify")
        #expect(harmed.status == 1)
        #expect(harmed.output.contains("chain nat-prerouting lacks the rule \"apus 2: capture inbound\"\n"))
        let json = try run("verify", "--json")
        #expect(json.status == 1)
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: [[String: String]]]
        #expect(object?["drift"]?.count == harmed.output.split(separator: "\n").count)
        #expect(object?["drift"]?.allSatisfy { $0["reason"] == "rule" } == true)

        #expect(try run("apply").status == 0)
        #expect(try run("verify").status == 0)
        for _ in 0..<2 { #expect(try Self.redirect("remove", network).status == 0) }
        #expect(try await onThread { try Judge.ruleset(network.pod) } == "")
    }

    @Test(
        "eBPF captures where it is asked for, is no nftables, and is taken away by the same command",
        arguments: IPAddress.Family.allCases)
    func ebpf(family: IPAddress.Family) async throws {
        let network = try await onThread { try Network() }
        #expect(try Self.redirect("verify", network, "--redirection", "ebpf").status == 1)
        let applied = try Self.redirect("apply", network, "--redirection", "ebpf")
        #expect(applied.status == 0, "\(applied.errors)")
        #expect(try await onThread { try Judge.ruleset(network.pod) } == "")
        let whole = try Self.redirect("verify", network, "--redirection", "ebpf")
        #expect(whole.status == 0, "\(whole.output)\(whole.errors)")
        #expect(try Self.redirect("verify", network).status == 1)
        try await onThread {
            let ztunnel = try FakeZtunnel(family, in: network.pod)
            let app = try Stream(family: family, in: network.pod)
            try app.connect(to: Endpoint(Network.serviceAddress(family), 80))
            try app.exchange(with: ztunnel.outbound.accept().stream)
        }
        #expect(try Self.redirect("remove", network).status == 0)
        let gone = try Self.redirect("verify", network, "--redirection", "ebpf")
        #expect(gone.status == 1)
        #expect(gone.output.contains("program apus_egress is missing"))
    }

    @Test("auto captures; a means that is not known is refused")
    func auto() async throws {
        let network = try await onThread { try Network() }
        #expect(try Self.redirect("apply", network, "--redirection", "auto").status == 0)
        #expect(try Self.redirect("verify", network, "--redirection", "auto").status == 0)
        let refused = try Self.redirect("verify", network, "--redirection", "iptables")
        #expect(refused.status == 64)
        #expect(refused.errors.contains("--redirection"))
    }

    @Test("a plan says what the kernel then holds, as text and as JSON")
    func plan() async throws {
        let network = try await onThread { try Network() }
        let plan = RedirectionPlan(families: [.v4], capturesInbound: false, virtualInterfaces: ["a", "b"])
        let options = ["--no-inbound", "--families", "v4", "--virtual-interface", "b", "--virtual-interface", "a"]
        let outline = NftablesBackend().outline(plan)
        let text = try ApusProgram(["redirect", "plan"] + options)
        #expect(text.status == 0)
        #expect(text.output.contains("# nft\n\(outline.ruleset)"))
        #expect(text.output.contains("ip -4 route add local 0.0.0.0/0 dev lo table 100 scope host\n"))
        #expect(text.output.contains("ip -4 rule add fwmark 0x111/0xfff lookup 100 priority 32764\n"))
        #expect(text.output.contains("net.netfilter.nf_conntrack_tcp_loose = 0\n"))
        #expect(!text.output.contains("-6"))

        let json = try ApusProgram(["redirect", "plan", "--json", "--netns", Self.path(network)] + options)
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        #expect(object?["ruleset"] as? String == outline.ruleset)
        let value = object?["plan"] as? [String: Any]
        #expect(value?["families"] as? [String] == ["v4"])
        #expect(value?["virtualInterfaces"] as? [String] == ["a", "b"])
        #expect(value?["capturesInbound"] as? Bool == false)
        #expect(try await onThread { try Judge.ruleset(network.pod) } == "")
    }

    @Test("without IPv6 in the namespace its part is left out, and refused when asked for")
    func withoutIPv6() async throws {
        let network = try await onThread { try Network(ipv6: false) }
        #expect(try Self.redirect("apply", network).status == 0)
        #expect(try Self.redirect("verify", network).status == 0)
        #expect(try await onThread { try !Judge.ruleset(network.pod).contains("ip6") })
        let refused = try Self.redirect("apply", network, "--families", "v6")
        #expect(refused.status == 2)
        #expect(refused.errors.contains("IPv6 is switched off in this namespace"))
    }

    @Test(
        "the node's namespace is never touched", arguments: ["plan", "apply", "verify", "remove"],
        ["/proc/1/ns/net", "/proc/self/ns/net"])
    func node(verb: String, path: String) throws {
        let refused = try ApusProgram(["redirect", verb, "--netns", path])
        #expect(refused.status == 2)
        #expect(refused.output.isEmpty)
        // Where the first process is kept from us, as in some containers, its namespace cannot even be opened.
        let isOurs = refused.errors.contains("--netns \(path) is the node's own namespace or this process's")
        #expect(isOurs || path.hasPrefix("/proc/1/") && refused.errors.contains("--netns \(path) cannot be used"))
    }

    @Test(
        "what is no network namespace is refused in words", arguments: ["/no/such", "/dev/null", "/proc/self/ns/mnt"])
    func noNamespace(path: String) throws {
        let refused = try ApusProgram(["redirect", "verify", "--netns", path])
        #expect(refused.status == 2)
        #expect(refused.errors.contains("--netns \(path) cannot be used"))
        #expect(refused.errors.contains("/run/netns/NAME"))
    }

    @Test("who makes the proxy's sockets must be a control group")
    func creator() throws {
        let refused = try ApusProgram(["redirect", "plan", "--creator", "/tmp"])
        #expect(refused.status == 2)
        #expect(refused.errors.contains("/tmp is no control group below the root one"))
    }

    @Test(
        "arguments that mean nothing are named",
        arguments: [
            (["--families", "v5"], "--families v5: expected v4, v6"), (["--families", "v4,"], "--families v4,"),
            (["--virtual-interface", "a/b"], "--virtual-interface \"a/b\" has a slash"),
            (["--virtual-interface", "lo"], "is the pod's own loopback"),
        ])
    func arguments(options: [String], message: String) throws {
        let refused = try ApusProgram(["redirect", "plan"] + options)
        #expect(refused.status == 64)
        #expect(refused.errors.contains(message))
    }
}
