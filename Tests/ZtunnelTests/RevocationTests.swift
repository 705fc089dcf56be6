import Addressing
import Crypto
import Foundation
import Identity
import LinuxNetwork
import Logging
import Mesh
import Observability
import SwiftASN1
import Synchronization
import TLSEngine
import Testing
import X509

@testable import Ztunnel

/// Revocation in the data path: namespaces, rules, keeper, TLS and the file are real.
@Suite("Revoked certificates", .serialized, .timeLimit(.minutes(2)))
struct RevocationTests {
    private func node(
        before: (RevocationFixture) throws -> Void = { try $0.revoke([]) },
        _ body: (TestNode, RevocationFixture, TestPod, TestPod) async throws -> Void
    ) async throws {
        let node = try TestNode()
        let client = try await node.pod("client", 1)
        let server = try await node.pod("server", 2)
        node.store.apply([.workload(node.workload(client)), .workload(node.workload(server))])
        let fixture = try RevocationFixture(node)
        do {
            try before(fixture)
            try node.startProxy { $0.revocationFile = fixture.path }
            try node.enrol(client)
            try node.enrol(server)
            try await body(node, fixture, client, server)
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }

    private func exchange(_ client: borrowing FileDescriptor, _ fd: CInt, _ text: String) throws {
        try Talk.send(client.raw, text)
        #expect(try Talk.receive(fd, text.utf8.count) == text)
    }

    @Test("crl_inbound_rejects_revoked_cert")
    func crlInboundRejectsRevokedCert() async throws {
        try await rejects(reporter: "destination") { client, _ in client }
    }

    @Test("crl_outbound_rejects_revoked_cert")
    func crlOutboundRejectsRevokedCert() async throws {
        try await rejects(reporter: "source") { _, server in server }
    }

    private func rejects(reporter: String, _ revoked: (TestPod, TestPod) -> TestPod) async throws {
        let node = try TestNode()
        let client = try await node.pod("client", 1)
        let server = try await node.pod("server", 2)
        node.store.apply([.workload(node.workload(client)), .workload(node.workload(server))])
        let fixture = try RevocationFixture(node)
        do {
            try fixture.revoke([try #require(node.certificate(of: revoked(client, server)))])
            try node.startProxy { $0.revocationFile = fixture.path }
            try node.enrol(client)
            try node.enrol(server)
            let listener = try server.listen(port: 8080)
            let connection = try client.connect(to: Endpoint(server.v4, 8080))
            try? Talk.send(connection.raw, "hello")
            // Closed or reset, but never an answer.
            #expect((try? Talk.receive(connection.raw)) ?? "" == "")
            try eventually("the log says why") { try node.log().contains("revoked") }
            let counted = node.metrics.exposition()
            #expect(
                counted.contains(#"istio_crl_policy_rejections_total{reporter="\#(reporter)"} 1"#), "\(counted)")
            #expect(counted.contains(#"response_flags="CERT_REVOKED""#), "\(counted)")
            withExtendedLifetime(listener) {}
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }

    @Test("crl_inbound_terminates_existing_connection_on_revocation")
    func crlInboundTerminatesExistingConnectionOnRevocation() async throws {
        try await terminates(direction: "inbound") { client, _ in client }
    }

    @Test("crl_outbound_terminates_existing_connection_on_revocation")
    func crlOutboundTerminatesExistingConnectionOnRevocation() async throws {
        try await terminates(direction: "outbound") { _, server in server }
    }

    private func terminates(direction: String, _ revoked: (TestPod, TestPod) -> TestPod) async throws {
        try await node { node, fixture, client, server in
            let listener = try server.listen(port: 8080)
            // The way back is no concern of the one that is revoked, and has a tunnel of its own.
            let connection = try client.connect(to: Endpoint(server.v4, 8080))
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            try exchange(connection, accepted.fd, "before")
            try fixture.revoke([try #require(node.certificate(of: revoked(client, server)))])
            try await untilTrue("the list is in force") {
                node.metrics.exposition().contains("apus_crl_revoked_certificates 1")
            }
            // Both ends are told; the one that was cut says so.
            _ = try? Talk.receive(connection.raw)
            _ = try? Talk.receive(accepted.fd)
            try eventually("the log says why") {
                try node.log().split(separator: "\n").contains {
                    $0.contains("CERT_REVOKED") && $0.contains(#"direction="\#(direction)""#)
                }
            }
            #expect(node.metrics.exposition().contains(#"response_flags="CERT_REVOKED""#))
        }
    }

    @Test("a revocation touches no tunnel that it does not concern")
    func othersGoOn() async throws {
        try await node { node, fixture, client, server in
            let listener = try server.listen(port: 8080)
            let connection = try client.connect(to: Endpoint(server.v4, 8080))
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            try exchange(connection, accepted.fd, "before")
            try fixture.revoke([], also: [[0x7f, 1, 2, 3]])
            try await untilTrue("the list is in force") {
                node.metrics.exposition().contains("apus_crl_revoked_certificates 1")
            }
            try exchange(connection, accepted.fd, "after")
        }
    }

    @Test("a malformed file closes the door for new tunnels, spares open ones, and says what is refused since when")
    func malformed() async throws {
        try await node { node, fixture, client, server in
            let listener = try server.listen(port: 8080)
            let connection = try client.connect(to: Endpoint(server.v4, 8080))
            let accepted = try Talk.accept(listener)
            defer { close(accepted.fd) }
            try exchange(connection, accepted.fd, "before")
            try fixture.write("nonsense")
            try await untilTrue("the door is closed") { node.metrics.exposition().contains("apus_crl_usable 0") }
            try exchange(connection, accepted.fd, "after")
            // From outside the mesh: what an enrolled pod sends to 15008 goes through its own ztunnel.
            let outsider = try await node.pod("outsider", 3)
            let foreign = try #require(node.certificate(of: client))
            let answer = try await ForeignClient.ask(
                "\(server.v4):8080", at: Endpoint(server.v4, 15008), from: outsider, with: foreign,
                expecting: [server.identity])
            #expect(answer == .refused("tls"))
            try eventually("the log says so") {
                try node.log().contains("\(fixture.path) (CRL_PATH) cannot be used since ")
            }
            try fixture.revoke([])
            try await untilTrue("the door is open") { node.metrics.exposition().contains("\napus_crl_usable 1\n") }
            let again = try await ForeignClient.ask(
                "\(server.v4):8080", at: Endpoint(server.v4, 15008), from: outsider, with: foreign,
                expecting: [server.identity])
            #expect(again == .status(200))
        }
    }

    @Test("trust_domain_mismatch_rejected, and an alias makes a match of it")
    func trustDomainMismatchRejected() async throws {
        for aliases in [[], ["elsewhere.example"]] {
            let node = try TestNode()
            let client = try await node.pod("client", 1)
            let server = try await node.pod("server", 2)
            node.store.apply([.workload(node.workload(server))])
            do {
                try node.startProxy { $0.trustDomainAliases = aliases }
                try node.enrol(server)
                let listener = try server.listen(port: 8080)
                let elsewhere = try await node.member(trustDomain: "elsewhere.example")
                let answer = try await ForeignClient.ask(
                    "\(server.v4):8080", at: Endpoint(server.v4, 15008), from: client, with: elsewhere,
                    expecting: [server.identity])
                #expect(answer == (aliases.isEmpty ? .refused("tls") : .status(200)))
                if aliases.isEmpty {
                    try eventually("the log names both") {
                        try node.log().contains("trust domain cluster.local, but elsewhere.example")
                    }
                }
                withExtendedLifetime(listener) {}
            } catch {
                Issue.record("\(error)\n\(node.evidence)")
            }
            await node.end()
        }
    }
}

/// The file of revocation lists, signed with the key of the node's authority.
struct RevocationFixture {
    let path: String
    private let key: P256.Signing.PrivateKey
    private let issuer: [UInt8]

    init(_ node: TestNode) throws {
        path = node.directory + "/ca.crl"
        key = try P256.Signing.PrivateKey(
            pemRepresentation: String(contentsOfFile: node.directory + "/ca/ca.key", encoding: .utf8))
        let root = try Certificate(
            pemEncoded: String(contentsOfFile: node.directory + "/ca/root-cert.pem", encoding: .utf8))
        var serializer = DER.Serializer()
        try root.subject.serialize(into: &serializer)
        issuer = serializer.serializedBytes
    }

    func revoke(_ certificates: [WorkloadCertificate], also serials: [[UInt8]] = []) throws {
        let all = try certificates.map { Array(try Certificate(derEncoded: $0.chainDER[0]).serialNumber.bytes) }
        try write(TestRevocationList(issuer: issuer, serials: all + serials).pem(key))
    }

    /// As Kubernetes does it: another file under the same name.
    func write(_ text: String) throws {
        try text.write(toFile: path, atomically: true, encoding: .utf8)
    }
}

/// The watcher alone, under a clock that the test turns.
@Suite("Watching the revocation file")
struct RevocationMonitorTests {
    private final class Clock: IdentityClock {
        private let time = Mutex(Date(timeIntervalSince1970: 1_800_000_000))
        func now() -> Date { time.withLock { $0 } }
        func advance(_ seconds: Double) { time.withLock { $0 += seconds } }
        /// The test looks itself.
        func wait(for duration: Duration) async throws { throw CancellationError() }
    }

    private func folder() throws -> String {
        let path = FileManager.default.temporaryDirectory.path + "/crl-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    private func list(serials: [[UInt8]]) throws -> String {
        let name = TestRevocationList.tlv(
            0x30,
            TestRevocationList.tlv(
                0x31,
                TestRevocationList.tlv(
                    0x30,
                    TestRevocationList.tlv(0x06, [0x55, 4, 3]) + TestRevocationList.tlv(0x0c, Array("root".utf8)))))
        return try TestRevocationList(issuer: name, serials: serials).pem(P256.Signing.PrivateKey())
    }

    private func monitor(
        _ path: String, _ metrics: MetricsRegistry, _ readiness: Readiness, _ clock: Clock
    ) throws -> RevocationMonitor {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return RevocationMonitor(
            path: path, metrics: try RevocationMetrics(metrics), readiness: readiness, clock: clock, logger: logger)
    }

    @Test("missing at the start it is not ready and refuses; once the file is there and rests, it is in force")
    func missing() throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }  // Left over in /tmp at worst.
        let (metrics, readiness, clock) = (MetricsRegistry(), Readiness(), Clock())
        let monitor = try monitor(folder + "/a.crl", metrics, readiness, clock)
        #expect(readiness.pendingTasks == [RevocationMonitor.readinessTask])
        #expect(metrics.exposition().contains("apus_crl_usable 0"))
        try list(serials: [[1], [2]]).write(toFile: folder + "/a.crl", atomically: true, encoding: .utf8)
        monitor.look()
        #expect(metrics.exposition().contains("apus_crl_usable 0"))
        clock.advance(1)
        monitor.look()
        #expect(readiness.isReady)
        #expect(metrics.exposition().contains("apus_crl_revoked_certificates 2"))
        withExtendedLifetime(monitor) {}
    }

    @Test("an exchanged link above the file is a change; a file that still changes is left alone; a lost one refuses")
    func links() throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let files = FileManager.default
        for (name, serials) in [("one", [[1]]), ("two", [[1], [2], [3]])] as [(String, [[UInt8]])] {
            try files.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
            try list(serials: serials).write(toFile: "\(folder)/\(name)/a.crl", atomically: false, encoding: .utf8)
        }
        try files.createSymbolicLink(atPath: folder + "/..data", withDestinationPath: "one")
        try files.createSymbolicLink(atPath: folder + "/a.crl", withDestinationPath: "..data/a.crl")
        let (metrics, readiness, clock) = (MetricsRegistry(), Readiness(), Clock())
        let monitor = try monitor(folder + "/a.crl", metrics, readiness, clock)
        #expect(metrics.exposition().contains("apus_crl_revoked_certificates 1"))
        try files.createSymbolicLink(atPath: folder + "/new", withDestinationPath: "two")
        #expect(rename(folder + "/new", folder + "/..data") == 0)
        monitor.look()
        clock.advance(0.5)
        monitor.look()
        #expect(metrics.exposition().contains("apus_crl_revoked_certificates 1"))
        clock.advance(0.5)
        monitor.look()
        #expect(metrics.exposition().contains("apus_crl_revoked_certificates 3"))
        // In the middle of being written.
        for _ in 0..<3 {
            let handle = try #require(FileHandle(forWritingAtPath: folder + "/two/a.crl"))
            try handle.seekToEnd()
            try handle.write(contentsOf: Data("x".utf8))
            try handle.close()
            monitor.look()
            clock.advance(0.9)
        }
        #expect(metrics.exposition().contains("\napus_crl_usable 1\n"))
        try files.removeItem(atPath: folder + "/..data")
        monitor.look()
        clock.advance(1)
        monitor.look()
        #expect(metrics.exposition().contains("apus_crl_usable 0"))
        #expect(!readiness.isReady)
    }
}
