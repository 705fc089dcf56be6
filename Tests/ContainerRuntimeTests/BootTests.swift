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
}

extension RuntimeCluster {
    /// Waits until containerd has loaded a list of plugins that holds a text.
    func waitUntilLoaded(_ text: String) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while try await !client.loadedConfiguration().contains(text) {
            try #require(ContinuousClock.now < deadline, "not loaded: \(text)\n\(node.lastWords())")
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}
