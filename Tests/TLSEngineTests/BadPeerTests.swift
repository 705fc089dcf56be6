import CNIOBoringSSL
import Foundation
import Mesh
import Testing

@testable import TLSEngine

@Suite("Peers that must not get in")
struct BadPeerTests {
    let authority: TestAuthority

    init() throws { authority = try TestAuthority() }

    /// Runs a handshake and returns what each side made of it.
    private func failures(
        client: TLSMaterial, server: TLSMaterial, expecting: [String] = [SessionPair.serverName]
    ) throws -> (client: TLSError?, server: TLSError?) {
        let pair = try SessionPair(
            client: End(TLSContext.client(client), expecting: expecting), server: End(TLSContext.server(server)))
        pair.handshake()
        return (pair.client.failure, pair.server.failure)
    }

    @Test("a client of another CA")
    func otherAuthority() throws {
        let other = try TestAuthority("another root")
        let stranger = try other.material(
            TestAuthority.Leaf(uris: [SessionPair.clientName]), roots: [authority.rootDER])
        let result = try failures(client: stranger, server: authority.material(SessionPair.serverName))
        #expect(result.server?.code == .untrustedCertificate)
        #expect(result.server?.message.contains("another root") == true)
        // The client has finished by then, so it hears of it in an alert.
        #expect(result.client?.code == .peerAlert)
        #expect(result.client?.alert == 48)
    }

    @Test("a server of another CA")
    func otherServerAuthority() throws {
        let other = try TestAuthority("another root")
        let stranger = try other.material(SessionPair.serverName)
        let result = try failures(client: authority.material(SessionPair.clientName), server: stranger)
        #expect(result.client?.code == .untrustedCertificate)
        #expect(result.server?.alert == 48)
    }

    @Test("a client of another trust domain, and of an alias of ours")
    func otherTrustDomain() throws {
        let client = try authority.material("spiffe://elsewhere/ns/default/sa/client")
        let server = try authority.material(SessionPair.serverName)
        let result = try failures(client: client, server: server)
        #expect(result.server?.code == .trustDomainMismatch)
        #expect(
            result.server?.message
                == "peer did not present the expected trust domain cluster.local, but elsewhere")
        #expect(result.client?.alert == 49)

        let tolerant = TLSMaterial(
            certificateChain: server.certificateChain, privateKey: server.privateKey, roots: server.roots,
            trustDomainAliases: ["elsewhere"])
        let accepted = try failures(client: client, server: tolerant)
        #expect(accepted.server == nil && accepted.client == nil)
    }

    @Test("a client whose certificate names nobody")
    func noIdentity() throws {
        for uris in [[], ["https://example.org/"], ["spiffe://cluster.local/ns/x"]] {
            let result = try failures(
                client: authority.material(TestAuthority.Leaf(uris: uris)),
                server: authority.material(SessionPair.serverName))
            #expect(result.server?.code == .trustDomainMismatch)
            #expect(result.server?.message.contains("no SPIFFE identity") == true)
        }
    }

    @Test("any identity of a certificate may be the one in our trust domain")
    func secondIdentity() throws {
        let leaf = TestAuthority.Leaf(uris: ["spiffe://elsewhere/ns/a/sa/b", SessionPair.clientName])
        let pair = try SessionPair(
            client: End(TLSContext.client(authority.material(leaf)), expecting: [SessionPair.serverName]),
            server: End(TLSContext.server(authority.material(SessionPair.serverName))))
        pair.handshake()
        #expect(pair.server.session.peerIdentity == SPIFFEIdentity(SessionPair.clientName))
        #expect(pair.server.session.peerIdentities.count == 2)
    }

    @Test("a server that is not whom we expect, and the empty expectation")
    func wrongIdentity() throws {
        let client = try authority.material(SessionPair.clientName)
        let server = try authority.material(SessionPair.serverName)
        let wrong = try failures(
            client: client, server: server, expecting: ["spiffe://cluster.local/ns/default/sa/other"])
        #expect(wrong.client?.code == .identityMismatch)
        #expect(wrong.client?.message.contains(SessionPair.serverName) == true)
        #expect(wrong.server?.code == .peerAlert)
        let empty = try failures(client: client, server: server, expecting: [])
        #expect(empty.client?.code == .identityMismatch)
        let second = try failures(
            client: client, server: server,
            expecting: ["spiffe://cluster.local/ns/default/sa/other", SessionPair.serverName])
        #expect(second.client == nil)
    }

    @Test("a certificate that has expired, or is of the future", arguments: [-7200.0, 7200.0])
    func wrongTime(offset: TimeInterval) throws {
        let leaf = TestAuthority.Leaf(
            uris: [SessionPair.clientName], notBefore: Date() + offset - 3600, notAfter: Date() + offset + 3600)
        let result = try failures(
            client: authority.material(leaf), server: authority.material(SessionPair.serverName))
        #expect(result.server?.code == .certificateNotValidNow)
        #expect(
            result.server?.message
                == (offset < 0 ? "peer certificate has expired" : "peer certificate is not valid yet"))
    }

    @Test("the clock of the context decides")
    func clock() throws {
        let server = try TLSContext.server(
            authority.material(SessionPair.serverName), clock: { Int64(Date().timeIntervalSince1970) + 7200 })
        let pair = try SessionPair(
            client: End(
                TLSContext.client(authority.material(SessionPair.clientName)), expecting: [SessionPair.serverName]),
            server: End(server))
        pair.handshake()
        #expect(pair.server.failure?.code == .certificateNotValidNow)
    }

    @Test("a certificate for the other side's use")
    func wrongPurpose() throws {
        let serverOnly = TestAuthority.Leaf(uris: [SessionPair.clientName], usages: [.serverAuth])
        let asClient = try failures(
            client: authority.material(serverOnly), server: authority.material(SessionPair.serverName))
        #expect(asClient.server?.code == .wrongPurpose)
        let clientOnly = TestAuthority.Leaf(uris: [SessionPair.serverName], usages: [.clientAuth])
        let asServer = try failures(
            client: authority.material(SessionPair.clientName), server: authority.material(clientOnly))
        #expect(asServer.client?.code == .wrongPurpose)
        let unrestricted = TestAuthority.Leaf(uris: [SessionPair.clientName], usages: [])
        let free = try failures(
            client: authority.material(unrestricted), server: authority.material(SessionPair.serverName))
        #expect(free.server == nil)
    }

    @Test("a client without a certificate")
    func noCertificate() throws {
        let server = try End(TLSContext.server(authority.material(SessionPair.serverName)))
        let client = try RawClient()
        client.talk(to: server)
        #expect(server.failure?.code == .noPeerCertificate)
        #expect(server.session.state == .failed)
    }

    @Test("a client that does not say h2")
    func noALPN() throws {
        for protocols in [[UInt8](), [8] + Array("http/1.1".utf8)] {
            let server = try End(TLSContext.server(authority.material(SessionPair.serverName)))
            let client = try RawClient(alpn: protocols, material: authority.material(SessionPair.clientName))
            client.talk(to: server)
            #expect(server.failure?.code == .noApplicationProtocol)
        }
    }

    @Test("a client of TLS 1.2")
    func oldVersion() throws {
        let server = try End(TLSContext.server(authority.material(SessionPair.serverName)))
        let client = try RawClient(version: 0x0303, material: authority.material(SessionPair.clientName))
        client.talk(to: server)
        #expect(server.failure?.code == .protocolVersion)
    }

    @Test(
        "bytes that are not TLS",
        arguments: [
            "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}",
        ])
    func notTLS(text: String) throws {
        let server = try End(TLSContext.server(authority.material(SessionPair.serverName)))
        server.receive(Array(text.utf8))
        #expect(server.failure?.code == .notTLS)
    }
}

/// A client of the library's own making, which breaks our rules.
final class RawClient {
    private let context: OpaquePointer
    private let ssl: OpaquePointer

    init(alpn: [UInt8] = [2, 0x68, 0x32], version: UInt16 = 0x0304, material: TLSMaterial? = nil) throws {
        context = try #require(SSL_CTX_new(TLS_with_buffers_method()))
        SSL_CTX_set_min_proto_version(context, version)
        SSL_CTX_set_max_proto_version(context, version)
        SSL_CTX_set_custom_verify(context, SSL_VERIFY_PEER) { _, _ in ssl_verify_ok }
        if let material {
            let key = try #require(PrivateKey(material.privateKey))
            let chain: [OpaquePointer?] = material.certificateChain.map { CRYPTO_BUFFER_new($0, $0.count, nil) }
            defer { for buffer in chain { CRYPTO_BUFFER_free(buffer) } }
            #expect(SSL_CTX_set_chain_and_key(context, chain, chain.count, key.handle, nil) == 1)
        }
        ssl = try #require(SSL_new(context))
        SSL_set_connect_state(ssl)
        if !alpn.isEmpty { SSL_set_alpn_protos(ssl, alpn, alpn.count) }
        SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()))
    }

    deinit {
        SSL_free(ssl)
        SSL_CTX_free(context)
    }

    func talk(to server: End) {
        for _ in 0..<10 {
            _ = SSL_do_handshake(ssl)
            var bytes = [UInt8](repeating: 0, count: 65536)
            let count = BIO_read(SSL_get_wbio(ssl), &bytes, CInt(bytes.count))
            guard count > 0 else { return }
            let answer = server.receive(Array(bytes[..<Int(count)]))
            BIO_write(SSL_get_rbio(ssl), answer, CInt(answer.count))
        }
    }
}
