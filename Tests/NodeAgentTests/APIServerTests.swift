import Kubernetes
import ObjectSource
import TestSupport
import Testing

@testable import NodeAgent

/// The agent and an API server.
@Suite("The agent on an API server", .serialized)
struct APIServerTests {
    @Test("a label on the namespace takes a running pod in and its removal lets it go, and the cluster is told")
    func label() async throws {
        let folder = try TemporaryFolder()
        let cluster = try await TestCluster()
        try await cluster.createNamespace("shop")
        let agent = try await ClusterAgent(cluster, folder)
        let uid = try await cluster.createPod("web")
        try await cluster.createPod("elsewhere", node: "n2")
        let pod = try FakePod()
        #expect(await agent.call(.add, "web", pod, uid: uid).code == 0)
        #expect(try !pod.hasCapture())

        try await cluster.label("shop", ambient: true)
        try await eventually("captured") { try pod.hasCapture() && pod.drift().isEmpty }
        try await eventually("told") { try await cluster.annotation(of: "web") == "enabled" }
        try await eventually("Enrolled") { try await cluster.events(on: "web") == ["Enrolled"] }
        #expect(agent.source.snapshot().pods.count == 1, "pods of other nodes are not followed")

        try await cluster.label("shop", ambient: false)
        try await eventually("let go") { try !pod.hasCapture() }
        try await eventually("told") { try await cluster.annotation(of: "web") == nil }
        try await eventually("Unenrolled") { try await cluster.events(on: "web") == ["Enrolled", "Unenrolled"] }
        try await agent.stop()
    }

    @Test("a pod that is attached before the agent has heard of it waits for the news, and starts captured")
    func early() async throws {
        let folder = try TemporaryFolder()
        let cluster = try await TestCluster()
        try await cluster.createNamespace("shop")
        try await cluster.label("shop", ambient: true)
        let agent = try await ClusterAgent(cluster, folder)
        let pod = try FakePod()
        async let reply = agent.call(.add, "web", pod)
        try await cluster.createPod("web")
        #expect(await reply.code == 0)
        #expect(try pod.drift().isEmpty)
        try await eventually("told") { try await cluster.annotation(of: "web") == "enabled" }
        try await agent.stop()
    }

    @Test("while the API server is dead all stays as it is and is kept up; when it is back, so is everything else")
    func death() async throws {
        let folder = try TemporaryFolder()
        let cluster = try await TestCluster()
        try await cluster.createNamespace("shop")
        try await cluster.label("shop", ambient: true)
        let agent = try await ClusterAgent(cluster, folder, objectWait: .milliseconds(300))
        let (pod, late) = (try FakePod(), try FakePod("10.99.0.8"))
        try await cluster.createPod("web")
        try await eventually("the pod is known") { agent.source.snapshot().pods.count == 1 }
        #expect(await agent.call(.add, "web", pod).code == 0)
        try await eventually("told") { try await cluster.annotation(of: "web") == "enabled" }

        await cluster.die()
        try await eventually("noticed") { agent.source.health.problem != nil }
        try pod.harm()
        try await eventually("repaired all the same") { try pod.drift().isEmpty }
        let reply = await agent.call(.add, "late", late)
        #expect(reply.code == 11)
        #expect(reply.details.contains("last heard from at"))
        #expect(try !late.hasCapture())
        // ztunnel goes meanwhile; that is told later.
        agent.keeper.setServes(false, state: .failed)
        #expect(try pod.drift().isEmpty)

        try await cluster.revive()
        try await eventually("told late", within: .seconds(30)) {
            try await cluster.annotation(of: "web") == "pending"
        }
        try await eventually("repairs are told", within: .seconds(30)) {
            try await cluster.events(on: "web").contains("DriftRepaired")
        }
        try await cluster.createPod("late")
        try await eventually("known") { agent.source.snapshot().pods.count == 2 }
        #expect(await agent.call(.add, "late", late).code == 0)
        #expect(try late.drift().isEmpty)
        #expect(agent.source.health.problem == nil)
        try await agent.stop()
    }

    @Test("from one label to the capture of thirty pods, each of them proven and told")
    func many() async throws {
        let folder = try TemporaryFolder()
        let cluster = try await TestCluster()
        try await cluster.createNamespace("shop")
        let agent = try await ClusterAgent(cluster, folder)
        let pods = try (1...30).map { try FakePod("10.99.1.\($0)") }
        for (index, pod) in pods.enumerated() {
            try await cluster.createPod("web-\(index)")
            #expect(await agent.call(.add, "web-\(index)", pod).code == 0)
        }
        let start = ContinuousClock.now
        try await cluster.label("shop", ambient: true)
        try await eventually("all are captured") { try pods.allSatisfy { try $0.hasCapture() } }
        let captured = ContinuousClock.now - start
        for index in pods.indices {
            try await eventually("told") { try await cluster.annotation(of: "web-\(index)") == "enabled" }
        }
        print("from the label to the capture of \(pods.count) pods: \(captured)")
        #expect(try pods.allSatisfy { try $0.drift().isEmpty })
        try await agent.stop()
    }
}
