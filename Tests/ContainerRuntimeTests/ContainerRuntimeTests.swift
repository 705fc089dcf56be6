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
}
