import Addressing
import Glibc
import LinuxNetwork
import Mesh
import Netlink
import Testing

@testable import Ztunnel

/// Ztunnel's own pod, served beside the node's (self proxy).
@Suite("The own pod", .serialized, .timeLimit(.minutes(2)))
struct OwnPodTests {
    private func listening(in pod: TestPod) throws -> Set<UInt16> {
        try pod.namespace.run { () throws(NetlinkError) in
            var diagnostics = try SocketDiagnostics()
            return Set(try diagnostics.tcpSockets(in: [.listening]).map(\.local.port))
        }
    }

    @Test(
        "test_hbone_metrics_access: the metrics port is reached through a tunnel, under policy, and nothing else is captured"
    )
    func selfProxy() async throws {
        let node = try TestNode()
        let client = try await node.pod("client", 1)
        let own = try await node.pod("ztunnel", 2)
        let outsider = try await node.pod("outsider", 3)
        let metrics = try own.listen(port: 15020)
        node.store.apply([client, own, outsider].map { .workload(node.workload($0)) })
        do {
            let network = PodNetwork(try own.namespace.duplicate())
            try node.startProxy {
                ($0.podNamespace, $0.podName, $0.serviceAccount) = ("shop", "ztunnel", "ztunnel")
                $0.ownNetwork = network
            }
            // The keeper's list of pods, in which it is not, does not end it.
            try node.enrol(client)
            #expect(try listening(in: own) == [15008, 15020])
            #expect(node.metrics.exposition().contains("\nworkload_manager_active_proxy_count 1\n"))

            let connection = try client.connect(to: Endpoint(own.v4, 15020))
            try Talk.send(connection.raw, "GET")
            let accepted = try Talk.accept(metrics)
            defer { close(accepted.fd) }
            // Nothing would lead replies to the client's address back to ztunnel.
            #expect(accepted.peer?.address == own.v4)
            #expect(try Talk.receive(accepted.fd, 3) == "GET")
            #expect(try client.tunnels(to: own) == 1)

            let ask = {
                try await ForeignClient.ask(
                    "\(own.v4):15020", at: Endpoint(own.v4, 15008), from: outsider,
                    with: try #require(node.certificate(of: outsider)), expecting: [own.identity])
            }
            #expect(try await ask() == .status(200))
            node.store.apply([
                .policy(
                    "shop/no",
                    AuthorizationPolicy(
                        name: "no", namespace: "shop", scope: .namespace, action: .deny, rules: [.init()]))
            ])
            #expect(try await ask() == .status(401))
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }

    @Test("a self proxy that cannot be had leaves the node's pods alone")
    func portInUse() async throws {
        let node = try TestNode()
        let client = try await node.pod("client", 1)
        let own = try await node.pod("ztunnel", 2)
        let squatter = try own.listen(port: 15008)
        node.store.apply([.workload(node.workload(client)), .workload(node.workload(own))])
        do {
            let network = PodNetwork(try own.namespace.duplicate())
            try node.startProxy {
                ($0.podNamespace, $0.podName, $0.serviceAccount) = ("shop", "ztunnel", "ztunnel")
                $0.ownNetwork = network
            }
            try node.enrol(client)
            withExtendedLifetime(squatter) {}
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }
}
