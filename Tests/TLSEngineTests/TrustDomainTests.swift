import Foundation
import Mesh
import Testing

@testable import TLSEngine

@Suite("Trust domains")
struct TrustDomainTests {
    private func material(
        _ authority: TestAuthority, _ identity: String, aliases: [String] = [], roots: [[UInt8]]? = nil,
        bundles: [String: [[UInt8]]] = [:], postQuantum: Bool = false
    ) throws -> TLSMaterial {
        let material = try authority.material(identity)
        return TLSMaterial(
            certificateChain: material.certificateChain, privateKey: material.privateKey,
            roots: roots ?? material.roots, trustDomainAliases: aliases, rootsByTrustDomain: bundles,
            requiresPostQuantum: postQuantum)
    }

    private func handshake(_ client: TLSMaterial, _ server: TLSMaterial, expecting: [String]) throws -> SessionPair {
        let pair = SessionPair(
            client: try End(TLSContext.client(client), expecting: expecting), server: try End(TLSContext.server(server))
        )
        pair.handshake()
        return pair
    }

    private static let server = "spiffe://prod.example/ns/shop/sa/server"
    private static let client = "spiffe://old.example/ns/shop/sa/client"

    @Test("a client of another trust domain is refused, one of an alias is let in under its own name")
    func serverSide() throws {
        let authority = try TestAuthority()
        let client = try material(authority, Self.client)
        let refused = try handshake(client, material(authority, Self.server), expecting: [Self.server])
        #expect(refused.server.failure?.code == .trustDomainMismatch)
        let accepted = try handshake(
            client, material(authority, Self.server, aliases: ["old.example"]), expecting: [Self.server])
        #expect(accepted.server.session.peerIdentity?.description == Self.client)
    }

    @Test(
        "an expected server may show an alias of the trust domain, and nothing else instead",
        arguments: [
            ("spiffe://old.example/ns/shop/sa/server", ["old.example"], true),
            ("spiffe://old.example/ns/shop/sa/server", [], false),
            ("spiffe://old.example/ns/shop/sa/other", ["old.example"], false),
            ("spiffe://old.example/ns/other/sa/server", ["old.example"], false),
            ("spiffe://foreign.example/ns/shop/sa/server", ["old.example"], false),
        ])
    func clientSide(expected: String, aliases: [String], accepted: Bool) throws {
        let authority = try TestAuthority()
        let server = try material(authority, Self.server, aliases: ["old.example"])
        let client = try material(authority, "spiffe://prod.example/ns/shop/sa/client", aliases: aliases)
        let pair = try handshake(client, server, expecting: [expected])
        #expect((pair.client.session.state == .established) == accepted)
        if !accepted { #expect(pair.client.failure?.code == .identityMismatch) }
        if accepted { #expect(pair.client.session.peerIdentity?.description == Self.server) }
    }

    @Test("a trust domain with roots of its own is vouched for by those alone")
    func bundles() throws {
        let ours = try TestAuthority("ours")
        let theirs = try TestAuthority("theirs")
        let bundles = ["old.example": [theirs.rootDER]]
        let server = try material(ours, Self.server, aliases: ["old.example"], bundles: bundles)
        let both = [ours.rootDER, theirs.rootDER]
        let good = try handshake(material(theirs, Self.client, roots: both), server, expecting: [Self.server])
        #expect(good.server.session.peerIdentity?.description == Self.client)
        // Our own authority must not speak for them, nor theirs for us.
        for (authority, identity) in [(ours, Self.client), (theirs, "spiffe://prod.example/ns/shop/sa/client")] {
            let bad = try handshake(material(authority, identity, roots: both), server, expecting: [Self.server])
            #expect(bad.server.failure?.code == .untrustedCertificate)
        }
    }

    @Test("where post-quantum key exchange is required nothing else is agreed to")
    func postQuantum() throws {
        let authority = try TestAuthority()
        let identity = "spiffe://prod.example/ns/shop/sa/client"
        let strict = try handshake(
            material(authority, identity, postQuantum: true), material(authority, Self.server),
            expecting: [Self.server])
        #expect(strict.client.session.groupName == "X25519MLKEM768")
        let old = SessionPair(
            client: try End(
                TLSContext(
                    .client, material(authority, identity), groups: [29], clock: { Int64(Date().timeIntervalSince1970) }
                ),
                expecting: [Self.server]),
            server: try End(TLSContext.server(material(authority, Self.server, postQuantum: true))))
        old.handshake()
        #expect(old.server.failure?.code == .noSharedParameters)
    }
}
