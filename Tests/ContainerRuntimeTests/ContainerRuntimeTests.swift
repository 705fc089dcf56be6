import Addressing
import Foundation
import GRPCCore
import LinuxNetwork
import Testing

@testable import LocalCluster

/// Pods made by a real container runtime, which calls the CNI plugins as it does under a kubelet. As root, with
/// containerd and runc.
@Suite("With containerd", .serialized)
struct ContainerRuntimeTests {
    /// The sniffer and the road it watches, without a mesh: what is sent in clear is seen. Without this the silence of
    /// the other test would prove nothing.
    @Test(.timeLimit(.minutes(2)))
    func whatIsSentInClearIsSeen() async throws {
        try await RuntimeCluster.run(mesh: false) { cluster in
            #expect(try await cluster.client.version().hasPrefix("containerd "))
            #expect(try await cluster.client.complaints() == [])
            let sniffer = try WireCapture(namespace: cluster.node.namespace, interface: nil)
            let server = try await cluster.start(RuntimePod(namespace: RuntimeCluster.exempt, name: "server"))
            let received = try MarkerServer(namespace: server.namespace)
            for address in server.addresses {
                let marker = "in-the-clear-\(address.family)-\(UUID().uuidString)"
                let pod = RuntimePod(namespace: RuntimeCluster.exempt, name: "client-\(address.family)".lowercased())
                let client = try await cluster.start(pod, ["\(address)", "\(MarkerServer.port)", marker])
                try Waiting.untilTrue("the marker of \(pod.key)", within: .seconds(10)) {
                    received.received[marker] != nil
                }
                #expect(received.received[marker] == client.addresses.filter { $0.family == address.family })
                #expect(sniffer.soFar().occurrences(of: marker) > 0)
                try await cluster.remove(client)
            }
            try await cluster.remove(server)
            try await Leftovers.expectNone(in: cluster)
        }
    }

    /// The first act of each of fifty containers is a connection; everything that passes the node is watched from before
    /// the first sandbox.
    @Test(.timeLimit(.minutes(5)))
    func theFirstWordsOfFiftyPodsAreNotSeen() async throws {
        try await RuntimeCluster.run(mesh: true) { cluster in
            let sniffer = try WireCapture(namespace: cluster.node.namespace, interface: nil)
            let before = try NodeDescriptors(cluster.node)
            let near = RuntimePod(namespace: RuntimeCluster.meshed, name: "near")
            let far = PodManifest(
                namespace: RuntimeCluster.meshed, name: "far", uid: UUID().uuidString.lowercased(),
                node: cluster.otherNode.name, command: [])
            let clients = (0..<50).map { RuntimePod(namespace: RuntimeCluster.meshed, name: "client-\($0)") }
            try cluster.create([near] + clients, file: "pods.yaml")
            try cluster.cluster.source.put("far.yaml", cluster.yaml(of: far))

            let nearPod = try await cluster.start(near)
            let farPod = try cluster.cluster.start(far)
            let servers = [
                try MarkerServer(namespace: nearPod.namespace), try MarkerServer(namespace: farPod.namespacePath),
            ]
            for name in ["near", "far"] {
                try cluster.waitUntilInMesh(namespace: RuntimeCluster.meshed, name: name)
            }

            // Every other one across nodes, every other pair over IPv6.
            let secret = "first-words-\(UUID().uuidString)"
            let addresses = [nearPod.addresses, farPod.addresses]
            let acts = clients.enumerated().map { index, pod in
                Act(pod: pod, server: index % 2, family: index / 2 % 2 == 0 ? .v4 : .v6, marker: "\(secret)-\(index)")
            }
            let pods = try await cluster.forEach(acts) { act in
                let target = try #require(addresses[act.server].first { $0.family == act.family })
                return try await cluster.start(act.pod, ["\(target)", "\(MarkerServer.port)", act.marker])
            }
            try Waiting.untilTrue(
                "all markers", within: .seconds(30),
                detail: { "\(servers.map(\.received.count)) of \(pods.count); " + cluster.node.lastWords(lines: 20) }
            ) { servers.map(\.received.count).reduce(0, +) >= pods.count }

            for (act, pod) in zip(acts, pods) {
                let own = pod.addresses.filter { $0.family == act.family }
                #expect(servers[act.server].received[act.marker] == own, "\(pod.pod.key)")
            }
            for pod in pods {
                let status = try await cluster.client.status(of: pod.container ?? "")
                #expect(status.state == .containerRunning, "\(pod.pod.key): \(status.exitCode) \(status.reason)")
            }

            let traffic = try sniffer.stop()
            #expect(traffic.occurrences(of: secret) == 0)
            #expect(traffic.bytes(port: MarkerServer.port) == 0)
            let tunnels = traffic.streams(toPort: Stage.hbonePort)
            for (act, pod) in zip(acts, pods) {
                let records = tunnels.filter { pod.addresses.contains($0.direction.source.address) }
                    .map { TLSRecords($0.bytes) }
                #expect(records.contains { $0.applicationData > 0 }, "\(act.pod.key) has a tunnel")
                #expect(records.allSatisfy { $0.isPure }, "\(act.pod.key)")
            }

            _ = try await cluster.forEach(pods + [nearPod]) { try await cluster.remove($0) }
            try await Leftovers.expectNone(in: cluster)
            try before.expectNoMore()
        }
    }

    private struct Act: Sendable {
        let pod: RuntimePod
        /// Index of the server it calls.
        let server: Int
        let family: IPAddress.Family
        let marker: String
    }

    /// No agent, no new pod: rather none than one outside the mesh. What there is goes on, and what is exempt starts.
    @Test(.timeLimit(.minutes(3)))
    func withoutAnAgentNoPodStarts() async throws {
        try await RuntimeCluster.run(mesh: true) { cluster in
            let before = try NodeDescriptors(cluster.node)
            let names = ["server", "early", "refused", "late"]
            let pods = names.map { RuntimePod(namespace: RuntimeCluster.meshed, name: $0) }
            try cluster.create(pods, file: "pods.yaml")
            let server = try await cluster.start(pods[0])
            let received = try MarkerServer(namespace: server.namespace)
            let early = try await cluster.start(pods[1])
            try cluster.waitUntilInMesh(namespace: RuntimeCluster.meshed, name: "server")
            try cluster.waitUntilInMesh(namespace: RuntimeCluster.meshed, name: "early")
            let target = "\(server.addresses[0])"

            try cluster.endAgent()
            let links = try Leftovers.links(of: cluster.node)
            let refusal = await #expect(throws: RPCError.self) { try await cluster.client.runSandbox(pods[2]) }
            #expect(refusal?.message.contains("cannot reach the node agent") == true, "\(String(describing: refusal))")
            #expect(refusal?.message.contains("apus-cni") == true)
            #expect(try Leftovers.links(of: cluster.node) == links)
            let exempt = try await cluster.start(RuntimePod(namespace: RuntimeCluster.exempt, name: "system"))

            // The sandbox is older than the agent's end; its container is not.
            let sniffer = try WireCapture(namespace: cluster.node.namespace, interface: nil)
            let marker = "without-an-agent-\(UUID().uuidString)"
            _ = try await cluster.client.start(
                [target, "\(MarkerServer.port)", marker], in: early.sandbox, of: early.pod)
            try Waiting.untilTrue("the marker of \(early.pod.key)", within: .seconds(10)) {
                received.received[marker] != nil
            }
            #expect(received.received[marker] == [early.addresses[0]])
            #expect(try sniffer.stop().occurrences(of: marker) == 0)

            try cluster.startAgent()
            let again = try await cluster.start(pods[2], [target, "\(MarkerServer.port)", "again"])
            let late = try await cluster.start(pods[3], [target, "\(MarkerServer.port)", "late"])
            try Waiting.untilTrue("the markers of new pods", within: .seconds(10)) {
                received.received["again"] != nil && received.received["late"] != nil
            }
            #expect(received.received["again"] == [again.addresses[0]])
            #expect(received.received["late"] == [late.addresses[0]])

            // Those that the first agent attached are the second one's to detach.
            for pod in [early, exempt, again, late, server] { try await cluster.remove(pod) }
            try await Leftovers.expectNone(in: cluster)
            try before.expectNoMore(.sockets, .ztunnel)
        }
    }
}
