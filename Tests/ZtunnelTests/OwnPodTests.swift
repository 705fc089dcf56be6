import Addressing
import Glibc
import LinuxNetwork
import Mesh
import Netlink
import Redirection
import Testing

@testable import Ztunnel

/// Ztunnel for the network namespace it runs in: its own pod's beside the node's pods, or one workload's alone.
@Suite("The own pod", .serialized, .timeLimit(.minutes(2)))
struct OwnPodTests {
    private func listening(in pod: TestPod) throws -> Set<UInt16> {
        try pod.namespace.run { () throws(NetlinkError) in
            var diagnostics = try SocketDiagnostics()
            return Set(try diagnostics.tcpSockets(in: [.listening]).map(\.local.port))
        }
    }

    @Test("self proxy: the metrics port is reached through a tunnel, under policy, and nothing else is captured")
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

    @Test("dedicated to a workload: captured both ways in its own namespace, without a control side of the node")
    func dedicated() async throws {
        let node = try TestNode()
        let own = try await node.pod("own", 1)
        let other = try await node.pod("other", 2)
        node.store.apply([.workload(node.workload(own)), .workload(node.workload(other, hbone: false))])
        let ownListener = try own.listen(port: 8080)
        let otherListener = try other.listen(port: 8080)
        do {
            let network = PodNetwork(try own.namespace.duplicate())
            try node.startProxy {
                $0.isDedicated = true
                $0.workloadInfo = OwnWorkload("shop/own/own")
                $0.packetMark = Mark.ztunnel
                $0.ownNetwork = network
            }
            #expect(try listening(in: own) == [8080, 15001, 15006, 15008, 15053])
            try NftablesBackend().apply(RedirectionPlan(), in: own.namespace)

            let out = try own.connect(to: Endpoint(other.v4, 8080))
            try Talk.send(out.raw, "out")
            let accepted = try Talk.accept(otherListener)
            defer { close(accepted.fd) }
            #expect(try Talk.receive(accepted.fd, 3) == "out")

            let into = try other.connect(to: Endpoint(own.v4, 8080))
            try Talk.send(into.raw, "in")
            let plain = try Talk.accept(ownListener)
            defer { close(plain.fd) }
            #expect(try Talk.receive(plain.fd, 2) == "in")
            #expect(plain.peer?.address == other.v4)

            let answer = try await ForeignClient.ask(
                "\(own.v4):8080", at: Endpoint(own.v4, 15008), from: other,
                with: try #require(node.certificate(of: other)), expecting: [own.identity])
            #expect(answer == .status(200))
            let tunnelled = try Talk.accept(ownListener)
            defer { close(tunnelled.fd) }
            #expect(tunnelled.peer?.address == other.v4)
            try eventually("what went out is told of") {
                node.metrics.exposition().contains("istio_tcp_connections_opened_total{reporter=\"source\"")
            }
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        // Asked twice at once, both return when it is over.
        let proxy = node.proxy
        async let first: Void? = proxy?.stop()
        async let second: Void? = proxy?.stop()
        _ = await (first, second)
        await node.end()
    }
}
