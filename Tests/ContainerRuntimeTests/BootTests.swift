import Foundation
import GRPCCore
import LinuxNetwork
import Testing

@testable import LocalCluster

extension ContainerRuntimeTests {
    private static let owned = "02-apus.conflist"

    /// A node's boot: the primary plugin writes its list, the runtime starts, and the agent comes last. No pod of the
    /// mesh starts before it does, though nothing in the primary's list speaks of the mesh.
    @Test(.timeLimit(.minutes(3)))
    func aPrimaryThatWritesItsListBeforeTheAgentRunsLetsNoPodPast() async throws {
        try await RuntimeCluster.run(mesh: true, agentInstalls: true) { cluster in
            let pods = ["server", "client", "refused"].map { RuntimePod(namespace: RuntimeCluster.meshed, name: $0) }
            try cluster.create(pods, file: "pods.yaml")
            try await cluster.waitUntilLoaded("apus-cni")
            let server = try await cluster.start(pods[0])
            let received = try MarkerServer(namespace: server.namespace)
            try cluster.waitUntilInMesh(namespace: RuntimeCluster.meshed, name: "server")

            // The boot.
            try cluster.endAgent()
            let primary = "\(cluster.runtime.configurations)/\(ContainerRuntime.primary)"
            try Files.replace(primary, with: ContainerRuntime.primaryList(of: cluster.node, mtu: 1400))
            let refusal = await #expect(throws: RPCError.self) { try await cluster.client.runSandbox(pods[2]) }
            #expect(refusal?.message.contains("cannot reach the node agent") == true, "\(String(describing: refusal))")
            let exempt = try await cluster.start(RuntimePod(namespace: RuntimeCluster.exempt, name: "system"))

            try cluster.startAgent()
            // What the primary has changed is followed.
            try await cluster.waitUntilLoaded("1400")
            let target = "\(server.addresses[0])"
            let sniffer = try WireCapture(namespace: cluster.node.namespace, interface: nil)
            let secret = "after-the-boot-\(UUID().uuidString)"
            let client = try await cluster.start(pods[1], [target, "\(MarkerServer.port)", secret])
            let late = try await cluster.start(pods[2], [target, "\(MarkerServer.port)", "\(secret)-late"])
            try Waiting.untilTrue("the markers", within: .seconds(10)) {
                received.received[secret] != nil && received.received["\(secret)-late"] != nil
            }
            #expect(received.received[secret] == [client.addresses[0]])
            #expect(try sniffer.stop().occurrences(of: secret) == 0)

            for pod in [client, late, exempt, server] { try await cluster.remove(pod) }
            try await Leftovers.expectNone(in: cluster)
        }
    }

    /// The primary's list alone is there when a pod starts, and no agent: the pod runs outside the mesh. The next agent
    /// finds it and takes it in.
    @Test(.timeLimit(.minutes(3)))
    func aPodThatSlippedThroughIsTakenInWhenTheAgentComes() async throws {
        try await RuntimeCluster.run(mesh: true, agentInstalls: true) { cluster in
            let pods = ["server", "slipped"].map { RuntimePod(namespace: RuntimeCluster.meshed, name: $0) }
            try cluster.create(pods, file: "pods.yaml")
            try await cluster.waitUntilLoaded("apus-cni")
            let server = try await cluster.start(pods[0])
            let received = try MarkerServer(namespace: server.namespace)
            try cluster.waitUntilInMesh(namespace: RuntimeCluster.meshed, name: "server")

            try cluster.endAgent()
            try FileManager.default.removeItem(atPath: "\(cluster.runtime.configurations)/\(Self.owned)")
            try await cluster.waitUntilLoaded("apus-cni", false)
            let slipped = try await cluster.start(pods[1])
            try cluster.startAgent()
            try await cluster.waitUntilLoaded("apus-cni")
            try cluster.waitUntilInMesh(namespace: RuntimeCluster.meshed, name: "slipped")
            let events = "\(cluster.cluster.layout.status)/events"
            let told = Files.names(in: events).filter { $0.hasSuffix(".startedoutsidemesh.yaml") }
            #expect(told == ["\(RuntimeCluster.meshed).slipped.startedoutsidemesh.yaml"])

            let sniffer = try WireCapture(namespace: cluster.node.namespace, interface: nil)
            let secret = "taken-in-\(UUID().uuidString)"
            _ = try await cluster.client.start(
                ["\(server.addresses[0])", "\(MarkerServer.port)", secret], in: slipped.sandbox, of: slipped.pod)
            try Waiting.untilTrue("the marker", within: .seconds(10)) { received.received[secret] != nil }
            #expect(received.received[secret] == [slipped.addresses[0]])
            #expect(try sniffer.stop().occurrences(of: secret) == 0)

            for pod in [slipped, server] { try await cluster.remove(pod) }
            try await Leftovers.expectNone(in: cluster)
        }
    }
}

extension RuntimeCluster {
    /// Waits until containerd has loaded a list of plugins that holds a text, or one that does not.
    func waitUntilLoaded(_ text: String, _ isThere: Bool = true) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while try await client.loadedConfiguration().contains(text) != isThere {
            try #require(ContinuousClock.now < deadline, "not loaded: \(text)\n\(node.lastWords())")
            try await ContinuousClock().sleep(for: .milliseconds(20))
        }
    }
}
