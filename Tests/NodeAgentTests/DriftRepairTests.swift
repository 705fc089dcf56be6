import Addressing
import LinuxNetwork
import Netlink
import ObjectSource
import Redirection
import TestSupport
import Testing

@testable import NodeAgent

/// Something in a pod's namespace is changed behind the agent's back.
enum Damage: String, CaseIterable, Sendable {
    case rulesFlushed, oneRuleDeleted, tableDeleted, policyRuleDeleted, routeDeleted, foreignRuleAdded

    func happen(in pod: FakePod) throws {
        try pod.namespace.value.run {
            switch self {
            case .rulesFlushed:
                var nftables = try NftablesSocket()
                var batch = Nftables.Batch()
                for chain in try nftables.chains(of: "apus") { batch.flush(table: "apus", chain: chain.name) }
                try nftables.commit(batch)
            case .oneRuleDeleted:
                // All of a chain's rules but the last: in one transaction, as one deletion would show.
                var nftables = try NftablesSocket()
                let rules = try nftables.rules(of: "apus").filter { $0.chain == "nat-output" }.dropLast()
                var batch = Nftables.Batch()
                batch.flush(table: "apus", chain: "nat-output")
                for (chain, rule) in rules { batch.addRule(rule, chain: chain, table: "apus") }
                try nftables.commit(batch)
            case .tableDeleted:
                var nftables = try NftablesSocket()
                var batch = Nftables.Batch()
                batch.removeTable("apus")
                try nftables.commit(batch)
            case .foreignRuleAdded:
                var nftables = try NftablesSocket()
                var batch = Nftables.Batch()
                batch.addRule(Nftables.Rule([.counter], comment: "not ours"), chain: "nat-output", table: "apus")
                try nftables.commit(batch)
            case .policyRuleDeleted:
                var routes = try RouteSocket()
                for rule in try routes.rules(.v4) where rule.priority == RedirectionPlan.rulePriority {
                    try routes.delete(rule)
                }
            case .routeDeleted:
                var routes = try RouteSocket()
                for route in try routes.routes(.v4, table: RedirectionPlan.routeTable) { try routes.delete(route) }
            }
        }
    }

    /// The metric's label.
    var reason: String {
        switch self {
        case .rulesFlushed, .oneRuleDeleted, .foreignRuleAdded: "rule"
        case .tableDeleted: "table"
        case .policyRuleDeleted: "policy_rule"
        case .routeDeleted: "route"
        }
    }
}

@Suite("Drift is heard of, repaired, and told", .serialized)
struct DriftRepairTests {
    private func enrolled(
        annotations: [String: String] = [:], configure: (inout NodeAgentConfiguration) -> Void = { _ in }
    ) async throws -> (AgentFixture, FakePod) {
        // The timer is an hour: what is repaired here was heard of.
        let fixture = try await AgentFixture(configure: configure)
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web", uid: "u-1", annotations: annotations)
        let pod = try FakePod()
        try #require(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        fixture.journal.clear()
        return (fixture, pod)
    }

    private static func isBlocked(_ pod: FakePod) throws -> Bool {
        try pod.namespace.value.run {
            var nftables = try NftablesSocket()
            return try nftables.table("apus-guard") != nil
        }
    }

    @Test("within a second, without waiting for the timer, and counted", arguments: Damage.allCases)
    func repaired(damage: Damage) async throws {
        let (fixture, pod) = try await enrolled()
        try damage.happen(in: pod)
        try await eventually("repaired", within: .seconds(1)) { try pod.drift().isEmpty }
        try await eventually("counted") {
            fixture.registry.exposition().contains("apus_agent_drift_repairs_total{reason=\"\(damage.reason)\"}")
        }
        #expect(await fixture.pod("c1")?.isProven == true)
        #expect(fixture.annotator["web"] == "enabled")
        try await fixture.stop()
    }

    @Test("again and again: who goes on changing things does not win")
    func repeated() async throws {
        let (fixture, pod) = try await enrolled()
        for _ in 0..<5 {
            try pod.harm()
            try await eventually("repaired", within: .seconds(1)) { try pod.drift().isEmpty }
        }
        try await fixture.stop()
    }

    @Test("what one pod suffers costs the others nothing")
    func others() async throws {
        let (fixture, pod) = try await enrolled()
        fixture.source.setPod("other", uid: "u-2")
        let other = try FakePod("10.99.0.8")
        try #require(await fixture.call(.add, "c2", other, name: "other", uid: "u-2").code == 0)
        // What the enrolment itself has set off.
        try await eventually("quiet") { await fixture.agent.isQuiet }
        let before = fixture.backend.verifications
        try pod.harm()
        try await eventually("repaired") { try pod.drift().isEmpty }
        try await eventually("quiet again") { await fixture.agent.isQuiet }
        let counted = fixture.backend.verifications
        #expect(counted[other.namespace.id] == before[other.namespace.id])
        #expect(counted[pod.namespace.id, default: 0] > before[pod.namespace.id, default: 0])
        try await fixture.stop()
    }

    @Test("what cannot be repaired is degraded, with the reason, and enabled once it can")
    func degraded() async throws {
        let (fixture, pod) = try await enrolled()
        fixture.backend.fail(RedirectionError(.kernel, "the kernel is busy"))
        try pod.harm()
        try await eventually("told") { fixture.annotator.problem(of: "web") != nil }
        #expect(fixture.annotator["web"] == "pending")
        #expect(fixture.annotator.problem(of: "web")?.contains("the kernel is busy") == true)
        #expect(fixture.registry.exposition().contains("apus_agent_pods{state=\"degraded\"} 1"))
        // Neither STRICT nor asked for: its traffic goes on.
        #expect(try !Self.isBlocked(pod))
        fixture.backend.fail(nil)
        try await eventually("whole again") { fixture.annotator["web"] == "enabled" }
        #expect(fixture.annotator.problem(of: "web") == nil)
        #expect(try pod.drift().isEmpty)
        try await fixture.stop()
    }

    @Test(
        "where only mutual TLS is accepted, or it is asked for, the pod has no network meanwhile",
        arguments: ["strict", "pod", "namespace", "node"])
    func failClosed(who: String) async throws {
        let (fixture, pod) = try await enrolled(annotations: who == "pod" ? ["apus.dev/fail-closed": "true"] : [:]) {
            $0.failsClosed = who == "node"
        }
        fixture.source.change {
            if who == "strict" {
                $0.insert(
                    .peerAuthentication(
                        PeerAuthentication(metadata: ObjectMeta(name: "strict", namespace: "shop"), mode: .strict)))
            } else if who == "namespace" {
                $0.namespaces["shop"]?.metadata.annotations["apus.dev/fail-closed"] = "true"
            }
        }
        try await eventually("the agent knows") { await fixture.agent.objects == fixture.source.snapshot() }
        fixture.backend.fail(RedirectionError(.kernel, "the kernel is busy"))
        try pod.harm()
        try await eventually("blocked") { try Self.isBlocked(pod) }
        try await eventually("counted") {
            fixture.registry.exposition().contains("apus_agent_blocked_pods 1")
        }
        fixture.backend.fail(nil)
        try await eventually("free again") { try !Self.isBlocked(pod) && pod.drift().isEmpty }
        try await eventually("told") { await fixture.pod("c1")?.isBlocked == false }
        try await fixture.stop()
    }

    private static func hasSecondLine(_ pod: FakePod) throws -> Bool {
        try pod.namespace.value.run {
            var nftables = try NftablesSocket()
            return try nftables.table("apus-line") != nil
        }
    }

    @Test(
        "every pod has the second line and asks for the seal, unless the agent is told otherwise; the next one changes it"
    )
    func everyPod() async throws {
        let (fixture, pod) = try await enrolled()
        #expect(try Self.hasSecondLine(pod))
        let plan = try PodRecordStore(folder: fixture.folder.path + "/run/pods").load().records.first?.plan
        #expect(plan?.requiresSeal == true && plan?.dropsUncaptured == true)
        try await fixture.stop()
        let next = try await AgentFixture(
            folder: fixture.folder, source: fixture.source, keeperPods: fixture.keeper
        ) { configuration in
            configuration.holdsSecondLine = false
            configuration.trustsMark = true
        }
        try await eventually("gone") { try !Self.hasSecondLine(pod) }
        try await eventually("proven") { await next.agent.isQuiet }
        #expect(try pod.drift().isEmpty)
        try await next.stop()
    }

    @Test("a pod that fails closed has the second line behind its capture, for as long as it does")
    func secondLine() async throws {
        let (fixture, pod) = try await enrolled { $0.holdsSecondLine = false }
        #expect(try !Self.hasSecondLine(pod))
        let policy = PeerAuthentication(metadata: ObjectMeta(name: "strict", namespace: "shop"), mode: .strict)
        fixture.source.change { $0.insert(.peerAuthentication(policy)) }
        try await eventually("there") { try Self.hasSecondLine(pod) }
        // It is repaired as the rest is, and so is what it stands behind.
        try pod.namespace.value.run {
            var nftables = try NftablesSocket()
            var batch = Nftables.Batch()
            batch.removeTable("apus-line")
            try nftables.commit(batch)
        }
        try await eventually("repaired", within: .seconds(1)) { try Self.hasSecondLine(pod) }
        #expect(try pod.drift().isEmpty)
        // The next agent takes it for its own.
        try await eventually("quiet") { await fixture.agent.isQuiet }
        try await fixture.stop()
        let next = try await AgentFixture(
            folder: fixture.folder, source: fixture.source, keeperPods: fixture.keeper
        ) { $0.holdsSecondLine = false }
        try await eventually("quiet") { await next.agent.isQuiet }
        #expect(try Self.hasSecondLine(pod))
        #expect(next.journal.all.isEmpty)
        next.source.change { $0.peerAuthentications = [:] }
        try await eventually("gone") { try !Self.hasSecondLine(pod) }
        #expect(try pod.drift().isEmpty)
        next.source.change { $0.insert(.peerAuthentication(policy)) }
        try await eventually("back") { try Self.hasSecondLine(pod) }
        #expect(await next.call(.delete, "c1", pod, uid: "u-1").code == 0)
        #expect(try !Self.hasSecondLine(pod) && !pod.hasCapture())
        try await next.stop()
    }

    @Test("a pod that is blocked and leaves the mesh, or ends, is free")
    func freed() async throws {
        let (fixture, pod) = try await enrolled { $0.failsClosed = true }
        fixture.backend.fail(RedirectionError(.kernel, "the kernel is busy"))
        try pod.harm()
        try await eventually("blocked") { try Self.isBlocked(pod) }
        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("let go") { await fixture.pod("c1")?.phase == .attached }
        #expect(try !Self.isBlocked(pod))
        try await fixture.stop()
    }

    @Test("a running pod that cannot be captured is kept off the network where that is asked for")
    func enrolmentFails() async throws {
        let fixture = try await AgentFixture { $0.failsClosed = true }
        fixture.source.setNamespace("shop", ambient: false)
        fixture.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        try #require(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        fixture.backend.fail(RedirectionError(.kernel, "the kernel is busy"))
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("blocked") { try Self.isBlocked(pod) }
        fixture.backend.fail(nil)
        try await eventually("captured") { fixture.annotator["web"] == "enabled" }
        #expect(try !Self.isBlocked(pod))
        try await fixture.stop()
    }

    @Test("an agent that comes back takes the guard of the one before it down once capture is proven")
    func guardOutlivesTheAgent() async throws {
        let (fixture, pod) = try await enrolled { $0.failsClosed = true }
        try await fixture.stop()
        try NftablesBackend().block(in: pod.namespace.value)
        let next = try await AgentFixture(
            folder: fixture.folder, source: fixture.source, keeperPods: fixture.keeper)
        try await eventually("free") { try !Self.isBlocked(pod) }
        try await next.stop()
    }

    @Test("a listener that is gone is made anew")
    func listener() async throws {
        let (fixture, _) = try await enrolled { $0.verifyInterval = .milliseconds(50) }
        fixture.backend.setMissingListeners([15001])
        try await eventually("the keeper makes the pod's sockets again") {
            fixture.journal.all.contains("keeper remove u-1 drain") && fixture.journal.all.contains("keeper add u-1")
        }
        fixture.backend.setMissingListeners([])
        try await eventually("whole again") { await fixture.pod("c1")?.isProven == true }
        try await fixture.stop()
    }
}
