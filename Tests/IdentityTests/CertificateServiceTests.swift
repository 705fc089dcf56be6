import Foundation
import GRPCCore
import Identity
import Mesh
import Testing

/// The client of the certificate service against a real one, over TLS.
@Suite(.timeLimit(.minutes(1))) struct CertificateServiceTests {
    let directory: TemporaryDirectory
    let tokens: TemporaryDirectory

    init() throws {
        directory = try TemporaryDirectory()
        tokens = try TemporaryDirectory()
        try tokens.write("token", "first.token.text\n")
    }

    private func settings(
        _ port: Int, serverName: String? = "istiod.istio-system.svc", host: String = "127.0.0.1"
    ) -> CertificateServiceSettings {
        CertificateServiceSettings(
            address: "https://\(host):\(port)", rootFile: directory.file("root-cert.pem"),
            tokenFile: tokens.file("token"),
            serverName: serverName, clusterID: "cluster-1")
    }

    private func sign(
        _ client: IstioCertificateClient, _ identity: SPIFFEIdentity = workload("client")
    ) async throws -> WorkloadCertificate {
        let request = try CertificateSigningRequestMaker.make(for: identity)
        let chain = try await client.sign(csrPEM: request.csrPEM, for: identity, validity: .seconds(3600))
        return try await chain.certificate(for: identity, key: request.key, at: Date())
    }

    private func code(_ client: IstioCertificateClient) async -> IdentityError? {
        do {
            _ = try await sign(client)
            return nil
        } catch {
            return error as? IdentityError
        }
    }

    @Test func fetchesACertificateAndSaysWhoAsksForWhom() async throws {
        let server = try await CertificateServer(directory: directory.path)
        let client = try IstioCertificateClient(settings(server.port))
        let certificate = try await sign(client)
        #expect(certificate.identity == workload("client"))
        #expect(certificate.rootsDER == [server.authority.rootDER])
        let seen = try #require(server.seen.first)
        #expect(seen.authorization == ["Bearer first.token.text"])
        #expect(seen.cluster == ["cluster-1"])
        #expect(seen.impersonated == "spiffe://cluster.local/ns/demo/sa/client")
        #expect(seen.validity == 3600)
        await client.close()
        await server.stop()
    }

    @Test func readsTheTokenAgainForEveryRequest() async throws {
        let server = try await CertificateServer(directory: directory.path)
        let client = try IstioCertificateClient(settings(server.port))
        _ = try await sign(client)
        try tokens.write("token", "  second.token.text \n\n")
        _ = try await sign(client)
        #expect(server.seen.map(\.authorization) == [["Bearer first.token.text"], ["Bearer second.token.text"]])

        for (content, expected) in [
            ("", IdentityError.Code.tokenMissing), ("\n \n", .tokenMissing), ("two tokens", .fileMalformed),
            ("tök.en", .fileMalformed),
        ] {
            try tokens.write("token", content)
            let error = await code(client)
            #expect(error?.code == expected)
            #expect(content.count < 5 || error?.description.contains(content) == false)
        }
        try FileManager.default.removeItem(atPath: tokens.file("token"))
        #expect(await code(client)?.code == .fileUnreadable)
        #expect(server.seen.count == 2)
        await client.close()
        await server.stop()
    }

    @Test(arguments: [
        (RPCError.Code.unauthenticated, IdentityError.Code.authorityRefused), (.permissionDenied, .authorityRefused),
        (.invalidArgument, .authorityRefused), (.unavailable, .authorityUnreachable),
        (.internalError, .authorityUnreachable), (.unimplemented, .authorityUnreachable),
    ])
    func namesWhatTheServiceAnswered(answer: RPCError.Code, expected: IdentityError.Code) async throws {
        let server = try await CertificateServer(directory: directory.path)
        let client = try IstioCertificateClient(settings(server.port))
        server.behave(.refuses(answer))
        let error = await code(client)
        #expect(error?.code == expected)
        #expect(error?.description.contains("first.token.text") == false)
        server.behave(.signs)
        #expect(await code(client) == nil)
        await client.close()
        await server.stop()
    }

    @Test func givesUpAtTheDeadline() async throws {
        let server = try await CertificateServer(directory: directory.path)
        var settings = settings(server.port)
        settings.deadline = .milliseconds(300)
        let client = try IstioCertificateClient(settings)
        server.behave(.hangs)
        let start = ContinuousClock.now
        #expect(await code(client)?.code == .timedOut)
        #expect(ContinuousClock.now - start < .seconds(5))
        await client.close()
        await server.stop()
    }

    @Test func somebodyListensAndSaysNothing() async throws {
        // The kernel completes the connection; nobody ever answers the handshake.
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) | listen(listener, 8) | getsockname(listener, $0, &length)
            }
        }
        #expect(bound == 0)
        _ = try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: Date())
        var settings = settings(Int(UInt16(bigEndian: address.sin_port)))
        settings.deadline = .milliseconds(300)
        let client = try IstioCertificateClient(settings)
        let start = ContinuousClock.now
        #expect(await code(client)?.code == .timedOut)
        #expect(ContinuousClock.now - start < .seconds(5))
        await client.close()
    }

    @Test func nobodyListens() async throws {
        let server = try await CertificateServer(directory: directory.path)
        let port = server.port
        await server.stop()
        var settings = settings(port)
        settings.deadline = .seconds(3)
        let client = try IstioCertificateClient(settings)
        let error = await code(client)
        #expect(error?.code == .authorityUnreachable || error?.code == .timedOut)
        // When it is back, the same client finds it.
        let again = try await CertificateServer(directory: directory.path, port: port)
        #expect(await code(client) == nil)
        await client.close()
        await again.stop()
    }

    @Test func aServerOfAnotherRootIsNotTrustedUntilTheFileSaysSo() async throws {
        let other = try TemporaryDirectory()
        let server = try await CertificateServer(directory: other.path)
        let stranger = try TemporaryDirectory()
        _ = try EmbeddedCA(directory: stranger.path, trustDomain: "cluster.local", now: Date())
        try directory.write("root-cert.pem", try stranger.read("root-cert.pem"))
        var settings = settings(server.port)
        settings.deadline = .seconds(3)
        let client = try IstioCertificateClient(settings)
        let error = await code(client)
        #expect(error?.code == .authorityUnreachable || error?.code == .timedOut)
        #expect(server.seen.isEmpty)

        let bundle = try stranger.read("root-cert.pem") + (try other.read("root-cert.pem"))
        try directory.write("root-cert.pem", bundle)
        #expect(await code(client) == nil)
        // A root taken back: the connection made under it is not used any longer.
        try directory.write("root-cert.pem", try stranger.read("root-cert.pem"))
        #expect(await code(client) != nil)
        #expect(server.seen.count == 1)
        await client.close()
        await server.stop()
    }

    @Test(arguments: [("", true), ("garbage", true), ("-----BEGIN X-----\nAAAA\n-----END X-----\n", true)])
    func aRootFileThatIsNone(content: String, refused: Bool) async throws {
        let server = try await CertificateServer(directory: directory.path)
        let good = try directory.read("root-cert.pem")
        try directory.write("root-cert.pem", content)
        let client = try IstioCertificateClient(settings(server.port))
        #expect(await code(client)?.code == .fileMalformed)
        try FileManager.default.removeItem(atPath: directory.file("root-cert.pem"))
        #expect(await code(client)?.code == .fileUnreadable)
        try directory.write("root-cert.pem", good)
        #expect(await code(client) == nil)
        await client.close()
        await server.stop()
    }

    @Test func theServersNameIsChecked() async throws {
        let named = try await CertificateServer(directory: directory.path, names: ["localhost"], addresses: [])
        for serverName in ["istiod.istio-system.svc", nil] {
            var wrong = settings(named.port, serverName: serverName)
            wrong.deadline = .seconds(3)
            let misled = try IstioCertificateClient(wrong)
            #expect(await code(misled) != nil)
            await misled.close()
        }
        #expect(named.seen.isEmpty)
        // By an expected name, and by the name that was dialled.
        for settings in [
            settings(named.port, serverName: "localhost"), settings(named.port, serverName: nil, host: "localhost"),
        ] {
            let client = try IstioCertificateClient(settings)
            #expect(await code(client) == nil)
            await client.close()
        }
        await named.stop()
        // By the address that was dialled.
        let addressed = try await CertificateServer(directory: directory.path)
        let client = try IstioCertificateClient(settings(addressed.port, serverName: nil))
        #expect(await code(client) == nil)
        await client.close()
        await addressed.stop()
    }

    @Test func answersThatAreNone() async throws {
        let server = try await CertificateServer(directory: directory.path)
        let client = try IstioCertificateClient(settings(server.port))
        let root = server.authority.rootPEM
        for (answer, expected) in [
            ([], IdentityError.Code.rootMissing), ([root], .rootMissing), (["", root], .responseMalformed),
            (["garbage", root], .responseMalformed), ([root, "garbage"], .responseMalformed),
            (Array(repeating: root, count: 40), .responseTooLarge),
            ([String(repeating: "A", count: 900_000), String(repeating: "A", count: 150_000)], .responseTooLarge),
            // A root is somebody, but not the workload.
            ([root, root], .identityMismatch),
        ] {
            server.behave(.answers(answer))
            #expect(await code(client)?.code == expected)
        }
        server.behave(.answers([String(repeating: "A", count: 3 << 20)]))
        #expect(await code(client) != nil)
        server.behave(.signs)
        #expect(await code(client) == nil)
        await client.close()
        await server.stop()
    }

    @Test(arguments: [
        "", "https://", "http://127.0.0.1:15012", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "host name:1",
        "https://[::1]", "::1:15012", "host:port", "https://host:15012/path", "tcp://host:1",
    ])
    func refusesWhatIsNoAddress(address: String) {
        let error = #expect(throws: IdentityError.self) {
            try IstioCertificateClient(CertificateServiceSettings(address: address, rootFile: "r", tokenFile: "t"))
        }
        #expect(error?.code == .configuration)
    }

    @Test(arguments: [
        "127.0.0.1:15012", "https://127.0.0.1:15012", "HTTPS://[fd00::1]:15012/", "istiod.istio-system.svc:15012",
        "https://istiod.istio-system.svc:15012",
    ])
    func acceptsAddresses(address: String) throws {
        _ = try IstioCertificateClient(CertificateServiceSettings(address: address, rootFile: "r", tokenFile: "t"))
    }
}
