import Addressing
import Glibc
import HBONE
import Identity
import LinuxNetwork
import Mesh
import Testing

@testable import Ztunnel

/// Whatever a connection waits for has a limit, and what comes after it is told.
@Suite("Waits have limits", .serialized, .timeLimit(.minutes(2)))
struct WaitingTests {
    private static let services = [TestNode.web: PortMap([80: 8080])]

    @Test("a pod that the control plane does not tell of is refused in time; told of in time it is served")
    func unknownWorkload() async throws {
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            try node.startProxy { $0.workloadTimeout = .milliseconds(200) }
            for pod in [client, server] { try node.enrol(pod) }
            let listener = try server.listen(port: 8080)
            let refused = try client.connect(to: Endpoint(server.v4, 8080))
            try expectClosed(refused.raw)
            try eventually("the log says why") {
                try node.log().contains("failed to fetch information about local workload: client.shop (client)")
            }
            let reason = #"reason="unknown_workload""#
            #expect(node.sample("apus_early_denials_total", #"direction="outbound""#, reason) == 1)
            // Into the pod, in plain and by tunnel.
            let outsider = try await node.pod("outsider", 3)
            let plain = try outsider.connect(to: Endpoint(server.v4, 8080))
            try expectClosed(plain.raw)
            let answer = try await ForeignClient.ask(
                "\(server.v4):8080", at: Endpoint(server.v4, 15008), from: outsider,
                with: try #require(node.certificate(of: outsider)), expecting: [server.identity])
            guard case .refused = answer else { throw Unmet("\(answer)") }
            #expect(node.sample("apus_early_denials_total", #"direction="inbound""#, reason) == 2)

            node.store.apply([.workload(node.workload(server))])
            await node.proxy?.stop()
            try node.startProxy { $0.workloadTimeout = .seconds(20) }
            try eventually("both are served again") { node.sample("workload_manager_active_proxy_count") == 2 }
            let waiting = try client.connect(to: Endpoint(server.v4, 8080))
            try Talk.send(waiting.raw, "x")
            node.store.apply([.workload(node.workload(client))])
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            #expect(try Talk.receive(accepted.fd, 1) == "x")
        }
    }

    /// An authority that takes requests and never answers.
    private struct SilentAuthority: WorkloadCertificateSource {
        func cached(_ identity: SPIFFEIdentity) -> WorkloadCertificate? { nil }
        func prefetch(_ identity: SPIFFEIdentity) {}
        func forget(_ identity: SPIFFEIdentity) {}
        func onRenewal(_ handler: @escaping @Sendable (WorkloadCertificate) -> Void) {}
        func certificate(
            for identity: SPIFFEIdentity, priority: CertificatePriority
        ) async throws -> WorkloadCertificate {
            // Nobody writes to it: it ends with the task.
            for await _ in AsyncStream.makeStream(of: Void.self).stream {}
            throw CancellationError()
        }
    }

    @Test("a certificate that does not come: connections out and tunnels in end in time, and say so")
    func noCertificate() async throws {
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            let outsider = try await node.pod("outsider", 3)
            node.store.apply([.workload(node.workload(client)), .workload(node.workload(server))])
            try node.startProxy(certificates: SilentAuthority()) { $0.certificateTimeout = .milliseconds(200) }
            try node.enrol(client)
            let refused = try client.connect(to: Endpoint(server.v4, 8080))
            try expectClosed(refused.raw)
            try eventually("the log says why") { try node.log().contains("certificate authority reachable") }
            #expect(
                node.sample(
                    "istio_tcp_connections_failed_total", #"reporter="source""#, #"response_flags="IDENTITY_ERROR""#)
                    == 1)
            let answer = try await ForeignClient.ask(
                "\(client.v4):8080", at: Endpoint(client.v4, 15008), from: outsider,
                with: try #require(node.certificate(of: outsider)), expecting: [client.identity])
            guard case .refused = answer else { throw Unmet("\(answer)") }
            #expect(
                node.sample("apus_early_denials_total", #"direction="inbound""#, #"reason="no_certificate""#) == 1)
        }
    }

    /// A service with one endpoint that serves and one that does not; the first is reached whatever the second does.
    /// - Parameter flag: How attempts at the second are counted.
    private func despite(
        _ flag: String, _ configure: (inout ZtunnelConfiguration) -> Void,
        _ other: (TestNode, TestPod) throws -> ForeignServer?
    ) async throws {
        try await onNode { node in
            let (client, good) = (try await node.pod("client", 1), try await node.pod("good", 2))
            let bad = try await node.pod("bad", 3)
            let standIn = try other(node, bad)
            defer { standIn?.stop() }
            // An address of nobody's is as silent as one behind a network policy.
            let addresses = standIn == nil ? [IPAddress(10, 99, 0, 77)] : [bad.v4]
            node.store.apply([
                .service(node.web()), .workload(node.workload(client)),
                .workload(node.workload(good, services: Self.services)),
                .workload(node.workload(bad, services: Self.services, addresses: addresses)),
            ])
            try node.startProxy(configure)
            for pod in [client, good] { try node.enrol(pod) }
            let listener = try good.listen(port: 8080)
            try eventually("the other one was tried", seconds: 30) {
                _ = try Held(client, to: TestNode.vipEndpoint, accepting: listener)
                return node.sample(
                    "istio_tcp_connections_failed_total", #"reporter="source""#, "response_flags=\"\(flag)\"") > 0
            }
            // The application did not notice.
            let errors = try node.log().split(separator: "\n").filter {
                $0.contains(#"direction="outbound""#) && $0.contains("error=")
            }
            #expect(errors.isEmpty, "\(errors)")
        }
    }

    @Test("an endpoint that does not answer CONNECT gives way to the next in time")
    func reply() async throws {
        try await despite("CONNECT", { $0.responseTimeout = .milliseconds(200) }) { node, bad in
            try ForeignServer(in: bad, with: try #require(node.certificate(of: bad))) { _ in .saysNothing }
        }
    }

    @Test("an endpoint that does not answer SYN gives way to the next in time")
    func connect() async throws {
        try await despite("NETWORK_POLICY", { $0.connectTimeout = .milliseconds(200) }) { _, _ in nil }
    }
}
