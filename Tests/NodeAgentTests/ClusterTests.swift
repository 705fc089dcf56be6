import ObjectSource
import Redirection
import TestSupport
import Testing

@testable import NodeAgent

/// What is different when objects come from a cluster.
@Suite("The agent on a cluster")
struct ClusterTests {
    private let web = ObjectName(namespace: "shop", name: "web")

    @Test("a pod that is not known is to be tried again, and the answer says since when the API server is away")
    func unknown() async throws {
        let fixture = try await AgentFixture()
        let pod = try FakePod()
        fixture.source.setHealth(
            ObjectSourceHealth(isSynced: true, lastContact: 1_767_323_045, problem: "Pod: connection refused"))
        let reply = await fixture.call(.add, "c1", pod)
        #expect(reply.code == 11)
        #expect(reply.details.contains("last heard from at 2026-01-02T03:04:05Z: Pod: connection refused"))
        fixture.source.setHealth(ObjectSourceHealth(isSynced: false))
        #expect(await fixture.call(.add, "c1", pod).details.contains("have not been read yet"))
        #expect(try !pod.hasCapture())
        try await fixture.stop()
    }

    @Test("while the API server is away, pods that are known are attached and those that run stay as they are")
    func away() async throws {
        let fixture = try await AgentFixture { $0.namespacesAreObjects = true }
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        let pod = try FakePod()
        fixture.source.setHealth(ObjectSourceHealth(isSynced: true, lastContact: 1, problem: "away"))
        fixture.annotator.setAway(true)
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        #expect(try pod.drift().isEmpty)
        #expect(await fixture.pod("c1")?.phase == .capturing)
        #expect(fixture.annotator["web"] == nil)
        // When it is back the status is written, although nothing else happens.
        fixture.annotator.setAway(false)
        try await eventually("the status") { fixture.annotator["web"] == "enabled" }
        try await fixture.stop()
    }

    @Test("a status that somebody else takes away is written again")
    func foreignHand() async throws {
        let fixture = try await AgentFixture { $0.verifyInterval = .milliseconds(100) }
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        #expect(fixture.annotator["web"] == "enabled")
        fixture.journal.clear()
        fixture.source.change { $0.pods[web]?.metadata.annotations = [:] }
        try await eventually("it is there again") {
            fixture.source.snapshot().pods[web]?.metadata.annotations[MeshLabel.redirection] == "enabled"
        }
        try await fixture.stop()
    }

    @Test("a pod of a namespace that cannot be enrolled starts unseen, when no label of its own could enrol it")
    func outOfQuestion() async throws {
        let selector = EnablementSelector(namespaces: LabelSelector(labels: ["istio.io/dataplane-mode": "ambient"]))
        let fixture = try await AgentFixture {
            $0.namespacesAreObjects = true
            $0.objectWait = .seconds(30)
            $0.enablementSelectors = [selector]
        }
        fixture.source.setNamespace("shop", ambient: false)
        let pod = try FakePod()
        let start = ContinuousClock.now
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        #expect(ContinuousClock.now - start < .seconds(10))
        #expect(await fixture.pod("c1") == nil)
        try await fixture.stop()

        // With Istio's selectors a label of the pod could, and so it is waited for.
        let standard = try await AgentFixture { $0.namespacesAreObjects = true }
        standard.source.setNamespace("shop", ambient: false)
        #expect(await standard.call(.add, "c1", pod).code == 11)
        try await standard.stop()
    }

    @Test("nothing is decided on a pod whose namespace is not known yet")
    func namespaceComesLater() async throws {
        let fixture = try await AgentFixture {
            $0.namespacesAreObjects = true
            $0.objectWait = .seconds(30)
        }
        fixture.source.setPod("web")
        let pod = try FakePod()
        async let reply = fixture.call(.add, "c1", pod)
        try await eventually("it waits") { fixture.source.readers > 2 }
        fixture.source.setNamespace("shop", ambient: true)
        #expect(await reply.code == 0)
        #expect(try pod.drift().isEmpty)
        // That the namespace is gone from the objects is no order to let the pod go.
        fixture.source.change { $0.namespaces = [:] }
        fixture.source.setPod("other")
        try await eventually("it is seen") { await fixture.agent.objects.namespaces.isEmpty }
        #expect(await fixture.pod("c1")?.phase == .capturing)
        try await fixture.stop()
    }

    @Test("its owner is told when a pod is taken in, repaired, and let go")
    func events() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web", uid: "u1")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod, uid: "u1").code == 0)
        func event(_ reason: String) -> PodEvent? { fixture.annotator.events.last { $0.reason == reason } }
        try await eventually("Enrolled") { event("Enrolled") != nil }
        #expect(event("Enrolled")?.isWarning == false && event("Enrolled")?.pod == PodReference(name: web, uid: "u1"))
        try pod.harm()
        try await eventually("DriftRepaired") { event("DriftRepaired") != nil }
        #expect(event("DriftRepaired")?.isWarning == true)
        #expect(event("DriftRepaired")?.message.contains("nat-output") == true)
        fixture.source.setNamespace("shop", ambient: false)
        try await eventually("Unenrolled") { event("Unenrolled") != nil }
        #expect(event("Unenrolled")?.message.contains("istio.io/dataplane-mode=ambient") == true)
        #expect(fixture.annotator.events.count { $0.reason == "Enrolled" } == 1)
        try await fixture.stop()
    }

    @Test("its owner is told why a pod cannot be taken in, and what to do")
    func failed() async throws {
        let fixture = try await AgentFixture()
        fixture.source.setNamespace("shop", ambient: true)
        fixture.source.setPod("web")
        fixture.keeper.setRefusal("no room")
        let pod = try FakePod()
        #expect(await fixture.call(.add, "c1", pod).code != 0)
        try await eventually("EnrollFailed") { fixture.annotator.events.contains { $0.reason == "EnrollFailed" } }
        let event = fixture.annotator.events.first { $0.reason == "EnrollFailed" }
        #expect(event?.message.contains("the keeper refused: no room") == true)
        #expect(event?.isWarning == true)
        fixture.keeper.setRefusal(nil)
        #expect(await fixture.call(.add, "c1", pod).code == 0)
        try await eventually("Enrolled") { fixture.annotator.events.contains { $0.reason == "Enrolled" } }
        try await fixture.stop()
    }

    @Test("selectors decide as Istio's do")
    func selectors() {
        func decide(_ selectors: [EnablementSelector], pod labels: [String: String], namespace: [String: String])
            -> EnrolmentDecision
        {
            EnrolmentRules(selectors: selectors).decide(
                Pod(metadata: ObjectMeta(name: "p", namespace: "shop", labels: labels)), namespaceLabels: namespace)
        }
        #expect(decide([], pod: ["istio.io/dataplane-mode": "ambient"], namespace: [:]) == .stayOut(.notLabelled))
        #expect(decide([EnablementSelector()], pod: [:], namespace: [:]) == .enrol)
        let tiers = EnablementSelector(
            pods: LabelSelector(requirements: [.init("tier", .in, ["web", "db"])]),
            namespaces: LabelSelector(requirements: [.init("mesh", .exists)]))
        #expect(decide([tiers], pod: ["tier": "db"], namespace: ["mesh": ""]) == .enrol)
        #expect(decide([tiers], pod: ["tier": "db"], namespace: [:]) == .stayOut(.notLabelled))
        #expect(decide([tiers], pod: ["tier": "x"], namespace: ["mesh": ""]) == .stayOut(.notLabelled))
        #expect(EnrolmentRules(selectors: [tiers]).mayEnrol(inNamespace: "shop", labels: ["mesh": ""]))
        #expect(!EnrolmentRules(selectors: [tiers]).mayEnrol(inNamespace: "shop", labels: [:]))
        #expect(!EnrolmentRules(selectors: [tiers]).mayEnrol(inNamespace: "kube-system", labels: ["mesh": ""]))
    }
}
