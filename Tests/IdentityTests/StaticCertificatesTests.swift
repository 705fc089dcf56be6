import Foundation
import Identity
import Mesh
import Testing

@Suite struct StaticCertificatesTests {
    let directory: TemporaryDirectory
    let authority: EmbeddedCA
    let clock = ManualClock()
    let files: StaticCertificates.Files

    init() throws {
        directory = try TemporaryDirectory()
        authority = try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: clock.now())
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let chain = try authority.sign(
            csrPEM: request.csrPEM, for: workload("client"), validity: nil, now: clock.now())
        files = StaticCertificates.Files(
            chain: try directory.write("chain.pem", chain.elements[0], mode: 0o644),
            key: try directory.write("key.pem", request.key.pemRepresentation),
            roots: directory.file("root-cert.pem"))
    }

    @Test func servesWhatTheFilesHold() async throws {
        let source: any WorkloadCertificateSource = try await StaticCertificates(
            [workload("client"): files], clock: clock)
        let certificate = try #require(source.cached(workload("client")))
        #expect(certificate.identity == workload("client"))
        #expect(
            try await source.certificate(for: workload("client"), priority: .realTime).serialNumber
                == certificate.serialNumber)
        source.forget(workload("client"))
        source.prefetch(workload("client"))
        #expect(source.cached(workload("client")) != nil)
        #expect(source.cached(workload("other")) == nil)
        await #expect(throws: IdentityError.self) {
            try await source.certificate(for: workload("other"), priority: .realTime)
        }
        clock.advance(by: 86_401)
        #expect(source.cached(workload("client")) == nil)
        await #expect(throws: IdentityError.self) {
            try await source.certificate(for: workload("client"), priority: .realTime)
        }
    }

    private func code(_ files: StaticCertificates.Files, for name: String = "client") async -> IdentityError.Code? {
        do {
            _ = try await StaticCertificates.load(files, for: workload(name), at: clock.now())
            return nil
        } catch {
            return error.code
        }
    }

    @Test func refusesFilesThatDoNotBelongTogether() async throws {
        #expect(await code(files) == nil)
        #expect(await code(files, for: "server") == .identityMismatch)
        try directory.setMode("key.pem", 0o644)
        #expect(await code(files) == .filePermissions)
        try directory.setMode("key.pem", 0o600)

        var wrongKey = files
        wrongKey.key = directory.file("ca.key")
        #expect(await code(wrongKey) == .keyMismatch)
        for change in [\StaticCertificates.Files.chain, \.key, \.roots] {
            var missing = files
            missing[keyPath: change] = directory.file("nowhere")
            #expect(await code(missing) == .fileUnreadable)
            var malformed = files
            malformed[keyPath: change] = try directory.write("garbage", "garbage")
            #expect(await code(malformed) == .fileMalformed)
        }
        var empty = files
        empty.roots = files.chain
        #expect(await code(empty) != nil)
    }
}
