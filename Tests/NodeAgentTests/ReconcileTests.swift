import Handover
import LinuxNetwork
import ObjectSource
import Redirection
import TestSupport
import Testing

@testable import NodeAgent

@Suite("Labels, drift and restarts", .serialized)
struct ReconcileTests {
    private func enrolled(
        configure: (inout NodeAgentConfiguration) -> Void = { _ in }
    ) async throws -> (AgentFixture, FakePod) {
        let fixture = try await AgentFixture(configure: configure)
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        try #require(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        fixture.journal.clear()
        return (fixture, pod)
    }

    @Test("a running pod is enrolled by a label and let go by its removal, in the safe order")
    func labels() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: false)
        fixture.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod, uid: "u-1").code == 0)
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("enrolled") { fixture.annotator["web"] == "enabled" }
        #expect(fixture.journal.all == ["keeper add u-1", "apply", "status enabled"])
        #expect(try pod.drift().isEmpty)

        fixture.journal.clear()
        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("let go") { await fixture.pod("c1")?.phase == .attached }
        #expect(fixture.journal.all == ["status none", "leave", "keeper remove u-1 drain", "remove"])
        #expect(try !pod.hasCapture())
        #expect(try fixture.records == ["c1"])
        try await fixture.stop()
    }

    @Test("a pod's own label counts, and so does the end of its containers")
    func podLabel() async throws {
        let (fixture, pod) = try await enrolled()
        fixture.source.change {
            $0.pods[ObjectName(namespace: "shop", name: "web")]?.metadata.labels = ["istio.io/dataplane-mode": "none"]
        }
        try await eventually("let go") { await fixture.pod("c1")?.phase == .attached }
        fixture.source.setPod("web", uid: "u-1")
        try await eventually("back") { fixture.annotator["web"] == "enabled" }
        fixture.source.setPod("web", uid: "u-1", phase: .succeeded)
        try await eventually("let go again") { await fixture.pod("c1")?.phase == .attached }
        #expect(try !pod.hasCapture())
        try await fixture.stop()
    }

    @Test("an annotation that changes what is captured takes effect")
    func override() async throws {
        let (fixture, pod) = try await enrolled()
        fixture.source.setPod("web", uid: "u-1", annotations: [CaptureOverrides.bypassInbound: "true"])
        try await eventually("inbound is left alone") { try !pod.drift().isEmpty }
        let plan = RedirectionPlan(
            families: try RedirectionPlan.families(in: pod.namespace.value), capturesInbound: false)
        try await eventually("as the annotation says") {
            try NftablesBackend().verify(plan, .capturing, in: pod.namespace.value).isEmpty
        }
        try await fixture.stop()
    }

    @Test("an annotation that names a guest's interface takes effect, and its end too")
    func virtualInterfaces() async throws {
        let (fixture, pod) = try await enrolled()
        for names in [["net1", "tap0"], []] {
            let value = names.joined(separator: ",")
            fixture.source.setPod(
                "web", uid: "u-1", annotations: [CaptureOverrides.rerouteVirtualInterfaces: value + ",no/name"])
            let plan = RedirectionPlan(
                families: try RedirectionPlan.families(in: pod.namespace.value), virtualInterfaces: names)
            try await eventually("as the annotation says") {
                try NftablesBackend().verify(plan, .capturing, in: pod.namespace.value).isEmpty
            }
        }
        try await fixture.stop()
    }

    @Test("the keeper is told anew when a limit or the pod's end is asked for, and rules are left alone")
    func settings() async throws {
        let (fixture, _) = try await enrolled()
        fixture.journal.clear()
        fixture.source.setPod("web", uid: "u-1", annotations: ["apus.dev/connection-limit": "9"])
        try await eventually("told of the limit") {
            fixture.keeper.settings["u-1"] == PodSettings(connectionLimit: 9)
        }
        fixture.source.change {
            $0.pods[ObjectName(namespace: "shop", name: "web")]?.metadata.deletionTimestamp = 1
        }
        try await eventually("told of the end") {
            fixture.keeper.settings["u-1"] == PodSettings(connectionLimit: 9, isTerminating: true)
        }
        #expect(!fixture.journal.all.contains("apply"))
        try await fixture.stop()
    }

    @Test("peers are waited for, captured connections live on, and only then the sockets go")
    func drain() async throws {
        let (fixture, pod) = try await enrolled {
            $0.peerUpdateTime = .seconds(3600)
            $0.peersUpdated = { reference in
                // A peers' view that is up to date at once.
                precondition(reference.uid == "u-1")
            }
        }
        fixture.backend.setCaptured(3)
        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("leaving") { try pod.drift(.leaving).isEmpty }
        #expect(fixture.journal.all == ["status none", "leave"])
        #expect(await fixture.pod("c1")?.phase == .leaving)
        fixture.backend.setCaptured(0)
        try await eventually("let go") { await fixture.pod("c1")?.phase == .attached }
        #expect(try !pod.hasCapture())
        try await fixture.stop()
    }

    @Test("who turns round while leaving stays, and its sockets with it")
    func turnRound() async throws {
        let (fixture, pod) = try await enrolled()
        fixture.backend.setCaptured(1)
        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("leaving") { fixture.journal.all.contains("leave") }
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("back") { fixture.annotator["web"] == "enabled" }
        fixture.backend.setCaptured(0)
        #expect(await fixture.call(.check, "c1", pod).code == 0)
        #expect(!fixture.journal.all.contains { $0.hasPrefix("keeper remove") })
        try await fixture.stop()
    }

    @Test("at the deadline captured connections are cut")
    func deadline() async throws {
        let (fixture, pod) = try await enrolled { $0.drainDeadline = .milliseconds(50) }
        fixture.backend.setCaptured(1)
        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("let go") { await fixture.pod("c1")?.phase == .attached }
        #expect(try !pod.hasCapture())
        #expect(fixture.registry.exposition().contains("apus_agent_drain_deadlines_total 1"))
        try await fixture.stop()
    }

    @Test("a DEL in the middle of leaving ends it")
    func deleteWhileLeaving() async throws {
        let (fixture, pod) = try await enrolled()
        fixture.backend.setCaptured(1)
        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("leaving") { fixture.journal.all.contains("leave") }
        #expect(await fixture.call(.delete, "c1", pod).code == 0)
        #expect(try !pod.hasCapture())
        #expect(try fixture.records.isEmpty)
        #expect(fixture.keeper.pods.isEmpty)
        try await fixture.stop()
    }

    @Test("drift is found on the timer, repaired and counted")
    func drift() async throws {
        let (fixture, pod) = try await enrolled { $0.verifyInterval = .milliseconds(20) }
        try pod.harm()
        try await eventually("repaired") { try pod.drift().isEmpty }
        try await eventually("counted") {
            fixture.registry.exposition().contains(#"apus_agent_drift_repairs_total{reason="rule"} 4"#)
        }
        #expect(fixture.annotator["web"] == "enabled")
        try await fixture.stop()
    }

    @Test("rules come back while the keeper is away: refused is better than bypassed")
    func driftWithoutKeeper() async throws {
        let (fixture, pod) = try await enrolled { $0.verifyInterval = .milliseconds(20) }
        fixture.keeper.setAway(true)
        try pod.harm()
        try await eventually("repaired") { try pod.drift().isEmpty }
        try await fixture.stop()
    }

    @Test("a keeper that comes back empty gets all pods again")
    func keeperLosesPods() async throws {
        let (fixture, pod) = try await enrolled()
        fixture.keeper.setAway(true, losingPods: true)
        fixture.keeper.setAway(false)
        try await eventually("added again") {
            fixture.keeper.pods["u-1"]?.netnsInode == pod.namespace.id.inode
        }
        #expect(fixture.annotator["web"] == "enabled")
        try await fixture.stop()
    }

    @Test("a label that changes while the keeper is away takes effect when it is back")
    func labelWithoutKeeper() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        fixture.keeper.setAway(true)
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("tried") { await fixture.pod("c1")?.phase == .capturing }
        fixture.keeper.setAway(false)
        try await eventually("enrolled", within: .seconds(2)) { fixture.annotator["web"] == "enabled" }
        #expect(try pod.drift().isEmpty)
        try await fixture.stop()
    }

    @Test("the next agent finds its pods again and touches nothing that is as it should be")
    func restart() async throws {
        let folder = try TemporaryFolder()
        let first = try await AgentFixture(folder: folder)
        first.source.setNamespace("shop", ambient: true)
        var pods: [FakePod] = []
        for index in 0..<3 {
            first.source.setPod("p\(index)", uid: "u-\(index)")
            let pod = try FakePod()
            pods.append(pod)
            try #require(await first.call(.add, "c\(index)", pod, name: "p\(index)", uid: "u-\(index)").code == 0)
        }
        first.source.setPod("plain", "other")
        let plain = try FakePod()
        #expect(await first.call(.add, "plain", plain, name: "plain", podNamespace: "other").code == 0)
        try await first.stop()

        // While no agent is there: one is harmed, one goes, one is let be.
        try pods[1].harm()
        pods.remove(at: 2)
        first.journal.clear()
        let second = try await AgentFixture(folder: folder, source: first.source, keeperPods: first.keeper)
        try await eventually("repaired") { try pods[1].drift().isEmpty }
        try await eventually("the one that is gone is given up") { first.keeper.pods["u-2"] == nil }
        try await eventually("the keeper was asked") { first.journal.all.contains("keeper add u-1") }
        try await eventually("its record, too") { try second.records == ["c0", "c1", "plain"] }
        #expect(try pods[0].drift().isEmpty)
        #expect(second.journal.all == ["apply"])
        #expect(first.journal.all.sorted() == ["keeper add u-1", "keeper remove u-2"])
        #expect(await second.call(.check, "c0", pods[0], name: "p0").code == 0)

        // A pod outside the mesh can be enrolled by the new agent as by the old one.
        second.source.setNamespace("other", ambient: true)
        try await eventually("enrolled") { try plain.drift().isEmpty }
        try await second.stop()
    }

    @Test("the next agent goes on with what was leaving")
    func restartWhileLeaving() async throws {
        let folder = try TemporaryFolder()
        let first = try await AgentFixture(folder: folder)
        first.source.setNamespace("shop", ambient: true)
        first.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        try #require(await first.call(.add, "c1", pod, uid: "u-1").code == 0)
        first.backend.setCaptured(1)
        first.source.setNamespace("shop", ambient: false)
        try await eventually("leaving") { first.journal.all.contains("leave") }
        try await first.stop()
        let second = try await AgentFixture(folder: folder, source: first.source, keeperPods: first.keeper)
        try await eventually("let go") { try !pod.hasCapture() }
        try await eventually("attached") { await second.pod("c1")?.phase == .attached }
        #expect(first.keeper.pods.isEmpty)
        try await second.stop()
    }

    @Test("a second agent is kept out")
    func lock() async throws {
        let fixture = try await AgentFixture()
        var configuration = NodeAgentConfiguration(nodeName: "n1", runDirectory: fixture.folder.path + "/run")
        configuration.lockWait = .zero
        let other = try NodeAgent(
            configuration, source: fixture.source, annotator: fixture.annotator, backend: fixture.backend,
            keeper: fixture.keeper)
        await #expect(throws: AgentError.self) { try await other.run() }
        #expect(await fixture.call(.status, "").code == 0)
        try await fixture.stop()
    }

    @Test("many pods at once")
    func many() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        let pods = try (0..<40).map { _ in try FakePod() }
        for index in pods.indices { fixture.source.setPod("p\(index)") }
        await withTaskGroup(of: UInt32.self) { group in
            for (index, pod) in pods.enumerated() {
                group.addTask { await fixture.call(.add, "c\(index)", pod, name: "p\(index)").code }
            }
            for await code in group { #expect(code == 0) }
        }
        #expect(fixture.keeper.pods.count == 40)
        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("all let go") {
            await fixture.agent.managedPods().allSatisfy { $0.phase == .attached }
        }
        #expect(try pods.allSatisfy { try !$0.hasCapture() })
        fixture.source.setNamespace("shop", ambient: true)
        try await eventually("all back") {
            await fixture.agent.managedPods().allSatisfy { $0.reported == "enabled" }
        }
        await withTaskGroup(of: UInt32.self) { group in
            for index in pods.indices { group.addTask { await fixture.call(.delete, "c\(index)").code } }
            for await code in group { #expect(code == 0) }
        }
        #expect(try fixture.records.isEmpty)
        #expect(fixture.keeper.pods.isEmpty)
        try await fixture.stop()
    }
}
