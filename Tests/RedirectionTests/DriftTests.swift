import Addressing
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

@Suite("Verification, repair and removal", .serialized)
struct DriftTests {
    private static let backend = NftablesBackend()

    /// Applies the plan, does `harm`, and returns what verification finds before and after a repair.
    private func drift(
        _ plan: RedirectionPlan = RedirectionPlan(), _ phase: RedirectionPhase = .capturing,
        after harm: @escaping @Sendable (borrowing NetworkNamespace) throws -> Void
    ) async throws -> [Drift] {
        try await onThread {
            let pod = try NetworkNamespace.make()
            try Self.backend.apply(plan, in: pod)
            if phase == .leaving { try Self.backend.leave(plan, in: pod) }
            try #require(try Self.backend.verify(plan, phase, in: pod).isEmpty)
            let whole = try Self.lines(pod)
            try harm(pod)
            let found = try Self.backend.verify(plan, phase, in: pod)
            if phase == .leaving {
                try Self.backend.leave(plan, in: pod)
            } else {
                try Self.backend.apply(plan, in: pod)
            }
            #expect(try Self.backend.verify(plan, phase, in: pod).isEmpty)
            #expect(try Self.lines(pod) == whole)
            return found
        }
    }

    /// The ruleset's lines without their order: a chain that is made anew stands behind the others.
    private static func lines(_ pod: borrowing NetworkNamespace) throws -> [String] {
        try Judge.ruleset(pod).split(separator: "\n").map(String.init).sorted()
    }

    @Test("nothing is there")
    func nothing() async throws {
        let found = try await onThread {
            try Self.backend.verify(RedirectionPlan(), .capturing, in: NetworkNamespace.make())
        }
        #expect(
            Set(found) == [
                .loopbackDown, .tableMissing, .routeMissing(.v4), .routeMissing(.v6), .policyRuleMissing(.v4),
                .policyRuleMissing(.v6),
            ])
    }

    @Test("the table is deleted")
    func tableDeleted() async throws {
        #expect(try await drift { _ = try Judge.nft("delete table inet apus", in: $0) } == [.tableMissing])
    }

    @Test("a chain is flushed", arguments: ["nat-output", "nat-prerouting", "raw-output"])
    func chainFlushed(chain: String) async throws {
        let found = try await drift { _ = try Judge.nft("flush chain inet apus \(chain)", in: $0) }
        let wanted = RedirectionTable.chains(RedirectionPlan(), .capturing).first { $0.name == chain }
        #expect(found == wanted?.rules.map { .ruleMissing(chain: chain, rule: $0.comment ?? "") })
    }

    @Test("each single rule is deleted")
    func ruleDeleted() async throws {
        for chain in RedirectionTable.chains(RedirectionPlan(), .capturing) {
            for (index, rule) in chain.rules.enumerated() {
                let found = try await drift { pod in
                    let handles = try Judge.nft("list chain inet apus \(chain.name)", in: pod, handles: true)
                        .split(separator: "\n").filter { $0.contains("comment") }
                        .compactMap { $0.split(separator: " ").last }
                    _ = try Judge.nft("delete rule inet apus \(chain.name) handle \(handles[index])", in: pod)
                }
                #expect(found == [.ruleMissing(chain: chain.name, rule: rule.comment ?? "")])
            }
        }
    }

    @Test("a rule of somebody else's is in front")
    func ruleAdded() async throws {
        let found = try await drift {
            _ = try Judge.nft("insert rule inet apus nat-output tcp dport 22 accept comment \"mine\"", in: $0)
        }
        #expect(found == [.ruleUnexpected(chain: "nat-output", rule: "mine")])
    }

    @Test("two rules have changed places")
    func reordered() async throws {
        let found = try await drift { pod in
            let listing = try Judge.nft("list chain inet apus nat-output", in: pod, handles: true)
            let last = listing.split(separator: "\n").last { $0.contains("comment") }
            let handle = last?.split(separator: " ").last ?? ""
            _ = try Judge.nft("delete rule inet apus nat-output handle \(handle)", in: pod)
            let text = last?.split(separator: "#").first ?? ""
            _ = try Judge.nft("insert rule inet apus nat-output \(text)", in: pod)
        }
        #expect(found == [.rulesReordered(chain: "nat-output")])
    }

    @Test("a chain is deleted, another is added")
    func chains() async throws {
        let found = try await drift { pod in
            _ = try Judge.nft("flush chain inet apus nat-output; delete chain inet apus nat-output", in: pod)
            _ = try Judge.nft("add chain inet apus mine { type filter hook input priority 0; }", in: pod)
            _ = try Judge.nft("add rule inet apus mine tcp dport 22 drop", in: pod)
        }
        #expect(found == [.chainMissing("nat-output"), .chainUnexpected("mine")])
    }

    @Test("a chain hangs elsewhere")
    func chainRehooked() async throws {
        let found = try await drift { pod in
            let listing = try Judge.nft("list chain inet apus raw-output", in: pod)
            let moved = listing.replacing("priority raw", with: "priority -299")
            _ = try Judge.nft("flush chain inet apus raw-output; delete chain inet apus raw-output", in: pod)
            _ = try Judge.nft(moved, in: pod)
        }
        #expect(found == [.chainDiffers("raw-output")])
    }

    @Test("a policy rule is deleted", arguments: IPAddress.Family.allCases)
    func policyRule(family: IPAddress.Family) async throws {
        let found = try await drift { pod in
            try pod.run { () throws(NetlinkError) in
                var routes = try RouteSocket()
                try routes.delete(PolicyRouting.rule(family))
            }
        }
        #expect(found == [.policyRuleMissing(family)])
    }

    @Test("the route is deleted", arguments: IPAddress.Family.allCases)
    func route(family: IPAddress.Family) async throws {
        let found = try await drift { pod in
            try pod.run { () throws(NetlinkError) in
                var routes = try RouteSocket()
                try routes.delete(PolicyRouting.route(family))
            }
        }
        #expect(found == [.routeMissing(family)])
    }

    @Test("a kernel parameter is changed", arguments: NamespaceSetting.allCases)
    func setting(_ setting: NamespaceSetting) async throws {
        let found = try await drift { pod in
            try pod.run { () throws(RedirectionError) in try setting.setting.write(setting.kernelDefault) }
        }
        let wanted = setting.wanted(RedirectionPlan()) ?? ""
        #expect(
            found == [.settingDiffers(name: setting.setting.name, value: setting.kernelDefault, wanted: wanted)])
    }

    @Test("while leaving, the rule that keeps translation going is deleted")
    func whileLeaving() async throws {
        let found = try await drift(RedirectionPlan(), .leaving) {
            _ = try Judge.nft("flush chain inet apus nat-output", in: $0)
        }
        #expect(
            found == [
                .ruleMissing(chain: "nat-output", rule: "apus 2: leaving: new connections are not captured")
            ])
    }

    @Test("applying again changes nothing, not even a handle")
    func idempotent() async throws {
        try await onThread {
            let pod = try NetworkNamespace.make()
            let plan = RedirectionPlan()
            try Self.backend.apply(plan, in: pod)
            let first = try Judge.ruleset(pod, handles: true)
            try Self.backend.apply(plan, in: pod)
            #expect(try Judge.ruleset(pod, handles: true) == first)
            try Self.backend.leave(plan, in: pod)
            try Self.backend.leave(plan, in: pod)
            #expect(try Self.backend.verify(plan, .leaving, in: pod).isEmpty)
            try Self.backend.apply(plan, in: pod)
            #expect(try Self.backend.verify(plan, .capturing, in: pod).isEmpty)
        }
    }

    /// All that capture touches, as text.
    private static func state(_ network: Network) throws -> [String] {
        let kernel = try network.pod.run {
            var routes = try RouteSocket()
            var found: [String] = []
            for family in IPAddress.Family.allCases {
                found += try routes.rules(family).map(\.description)
                // The kernel adds IPv6's local and link-local ones on its own time.
                found += try routes.routes(family)
                    .filter { !$0.destination.base.isLinkLocal && ($0.table != Route.localTable || family == .v4) }
                    .map(\.description)
            }
            return found + NamespaceSetting.allCases.map { $0.setting.read() ?? "" }
        }
        return kernel + [try Judge.ruleset(network.pod)]
    }

    @Test("removal leaves all as it was", arguments: ["0", "1"])
    func removal(loose: String) async throws {
        try await onThread {
            let network = try Network()
            try network.pod.run { () throws(RedirectionError) in
                try NamespaceSetting.picksUpOpenConnections.setting.write(loose)
            }
            _ = try Judge.nft(
                "add table inet other; add chain inet other in { type filter hook input priority 0; }",
                in: network.pod)
            let before = try Self.state(network)
            try Self.backend.apply(RedirectionPlan(), in: network.pod)
            #expect(try Self.state(network) != before)
            try Self.backend.leave(RedirectionPlan(), in: network.pod)
            for _ in 0..<2 {
                try Self.backend.remove(in: network.pod)
                let after = try Self.state(network)
                #expect(after == before, "new: \(after.filter { !before.contains($0) })")
            }
        }
    }

    @Test("a table whose memory was taken is made anew")
    func memoryLost() async throws {
        try await onThread {
            let pod = try NetworkNamespace.make()
            _ = try Judge.nft("add table inet apus", in: pod)
            try Self.backend.apply(RedirectionPlan(), in: pod)
            #expect(try Self.backend.verify(RedirectionPlan(), .capturing, in: pod).isEmpty)
            #expect(try Judge.ruleset(pod).contains("apus 2 tcp_loose=1 fwmark_accept=0"))
            try Self.backend.remove(in: pod)
            #expect(try pod.run { NamespaceSetting.picksUpOpenConnections.setting.read() } == "1")
        }
    }

    @Test("the setting's old value is not mistaken when the table is deleted under us")
    func memoryOutlivesTheTable() async throws {
        try await onThread {
            let pod = try NetworkNamespace.make()
            try Self.backend.apply(RedirectionPlan(), in: pod)
            _ = try Judge.nft("delete table inet apus", in: pod)
            try Self.backend.apply(RedirectionPlan(), in: pod)
            try Self.backend.remove(in: pod)
            #expect(try pod.run { NamespaceSetting.picksUpOpenConnections.setting.read() } == "1")
        }
    }

    @Test("changing the plan changes the rules")
    func planChange() async throws {
        try await onThread {
            let pod = try NetworkNamespace.make()
            try Self.backend.apply(RedirectionPlan(), in: pod)
            let plan = RedirectionPlan(capturesInbound: false)
            #expect(try Self.backend.verify(plan, .capturing, in: pod).count == 2)
            try Self.backend.apply(plan, in: pod)
            #expect(try Self.backend.verify(plan, .capturing, in: pod).isEmpty)
        }
    }
}
