import Crypto
import Foundation
import Mesh
import SwiftASN1
import Synchronization
import Testing
import X509

@testable import TLSEngine

@Suite("Revocation lists")
struct RevocationTests {
    private func name(_ authority: TestAuthority) throws -> [UInt8] {
        var serializer = DER.Serializer()
        try authority.name.serialize(into: &serializer)
        return serializer.serializedBytes
    }

    private func serial(_ der: [UInt8]) throws -> [UInt8] {
        Array(try X509.Certificate(derEncoded: der).serialNumber.bytes)
    }

    private func list(_ authority: TestAuthority, _ serials: [[UInt8]]) throws -> TestRevocationList {
        TestRevocationList(issuer: try name(authority), serials: serials)
    }

    private func store(
        _ file: [UInt8], _ rejected: @escaping @Sendable (TLSContext.Role) -> Void = { _ in }
    ) throws -> RevocationStore {
        let store = RevocationStore(unusable: "not read yet", onRejection: rejected)
        store.install(try RevocationLists(contentsOf: file))
        return store
    }

    private func material(
        _ authority: TestAuthority, _ identity: String, _ store: RevocationStore?
    ) throws -> TLSMaterial {
        let material = try authority.material(identity)
        return TLSMaterial(
            certificateChain: material.certificateChain, privateKey: material.privateKey, roots: material.roots,
            revocation: store)
    }

    private func pair(_ client: TLSMaterial, _ server: TLSMaterial) throws -> SessionPair {
        let pair = SessionPair(
            client: try End(TLSContext.client(client), expecting: [SessionPair.serverName]),
            server: try End(TLSContext.server(server)))
        pair.handshake()
        return pair
    }

    @Test("a revoked client is refused by the server, and hears why")
    func inbound() throws {
        let authority = try TestAuthority()
        let client = try material(authority, SessionPair.clientName, nil)
        let file = try list(authority, [serial(client.certificateChain[0])]).der(authority.key)
        let rejections = Mutex<[TLSContext.Role]>([])
        let store = try store(file) { role in rejections.withLock { $0.append(role) } }
        let ends = try pair(client, material(authority, SessionPair.serverName, store))
        #expect(ends.server.failure?.code == .certificateRevoked)
        #expect(ends.server.failure?.message.contains(SessionPair.clientName) == true)
        #expect(ends.server.failure?.isRevocation == true)
        #expect(ends.client.failure?.alert == 44)
        #expect(ends.client.failure?.isRevocation == true)
        #expect(rejections.withLock { $0 } == [.server])
    }

    @Test("a revoked server is refused by the client")
    func outbound() throws {
        let authority = try TestAuthority()
        let server = try material(authority, SessionPair.serverName, nil)
        let store = try store(list(authority, [serial(server.certificateChain[0])]).der(authority.key))
        let ends = try pair(material(authority, SessionPair.clientName, store), server)
        #expect(ends.client.failure?.code == .certificateRevoked)
    }

    @Test("whom no list names is let in, also those of an authority without a list")
    func good() throws {
        let authority = try TestAuthority()
        let other = try TestAuthority("other root")
        let files = [
            try list(authority, [[1, 2, 3]]).der(authority.key), try list(other, [[4]]).der(other.key), [],
        ]
        for file in files {
            let store = try store(file)
            let ends = try pair(
                material(authority, SessionPair.clientName, store), material(authority, SessionPair.serverName, store))
            #expect(ends.client.session.state == .established && ends.server.session.state == .established)
            #expect(ends.server.session.peerChain.count == 1)
            #expect(ends.server.session.revocationGeneration == store.generation)
        }
    }

    @Test("the whole chain counts: a revoked intermediate takes its leaves along")
    func intermediate() throws {
        let root = try TestAuthority("root")
        let middle = try TestAuthority("middle")
        let middleDER = try root.signAuthority(middle)
        func material(_ identity: String, _ store: RevocationStore?) throws -> TLSMaterial {
            let leaf = try middle.material(identity)
            return TLSMaterial(
                certificateChain: leaf.certificateChain + [middleDER], privateKey: leaf.privateKey,
                roots: [root.rootDER], revocation: store)
        }
        let open = try store([])
        let before = try pair(material(SessionPair.clientName, nil), material(SessionPair.serverName, open))
        #expect(before.server.session.peerChain.count == 2)
        let revoked = open.install(
            try RevocationLists(contentsOf: list(root, [serial(middleDER)]).der(root.key)))
        // Who was let in before is recognised by the same key.
        #expect(!revoked.isDisjoint(with: before.server.session.peerChain))
        #expect(open.isRevoked(before.server.session.peerChain))
        #expect(open.generation != before.server.session.revocationGeneration)
        let after = try pair(material(SessionPair.clientName, nil), material(SessionPair.serverName, open))
        #expect(after.server.failure?.code == .certificateRevoked)
    }

    @Test("a list in an authority's name that it did not sign closes the door for its certificates")
    func forged() throws {
        let authority = try TestAuthority()
        let forger = P256.Signing.PrivateKey()
        let client = try material(authority, SessionPair.clientName, nil)
        for serials in [[], [try serial(client.certificateChain[0])]] {
            let store = try store(list(authority, serials).der(forger))
            let ends = try pair(client, material(authority, SessionPair.serverName, store))
            #expect(ends.server.failure?.code == .revocationUnknown)
            #expect(store.isRevoked([]) == false)
        }
        // The authority's own list beside the forged one is what counts.
        let both =
            try list(authority, [[9]]).pem(forger)
            + (try list(authority, [serial(client.certificateChain[0])]).pem(
                authority.key))
        let ends = try pair(client, material(authority, SessionPair.serverName, store(Array(both.utf8))))
        #expect(ends.server.failure?.code == .certificateRevoked)
    }

    @Test("while the file cannot be used nobody is let in, and the error says what and since when")
    func unusable() throws {
        let authority = try TestAuthority()
        let store = try store([])
        store.refuse("/crl.pem cannot be used since noon: it is no CRL")
        let ends = try pair(
            material(authority, SessionPair.clientName, nil), material(authority, SessionPair.serverName, store))
        #expect(ends.server.failure?.code == .revocationUnknown)
        #expect(ends.server.failure?.message.contains("since noon: it is no CRL") == true)
        store.install(RevocationLists())
        let again = try pair(
            material(authority, SessionPair.clientName, nil), material(authority, SessionPair.serverName, store))
        #expect(again.server.session.state == .established)
    }

    @Test("PEM may hold many lists and other blocks; an empty file has none")
    func pem() throws {
        let one = try TestAuthority("one")
        let two = try TestAuthority("two")
        let text =
            "a comment\n" + (try list(one, [[1], [2]]).pem(one.key))
            + TestRevocationList.pem("CERTIFICATE", one.rootDER) + (try list(two, [[3]]).pem(two.key))
        let lists = try RevocationLists(contentsOf: Array(text.utf8))
        #expect(lists.lists.count == 2)
        #expect(lists.count == 3)
        for empty in ["", "\n \n"] { #expect(try RevocationLists(contentsOf: Array(empty.utf8)).lists.isEmpty) }
    }

    @Test("what is not understood is refused: cut off, trailing bytes, delta, partial, critical and unknown")
    func malformed() throws {
        let authority = try TestAuthority()
        let good = try list(authority, [[1]])
        let der = try good.der(authority.key)
        let pem = try good.pem(authority.key)
        func with(_ change: (inout TestRevocationList) -> Void) throws -> [UInt8] {
            var list = good
            change(&list)
            return try list.der(authority.key)
        }
        let delta: [UInt8] = [0x55, 0x1d, 0x1b]
        let distribution: [UInt8] = [0x55, 0x1d, 0x1c]
        let unknown: [UInt8] = [0x2a, 0x03, 0x04]
        let files: [[UInt8]] = [
            Array("nonsense".utf8), der + [0], Array(der.dropLast()), Array(pem.utf8.dropLast(30)),
            Array((pem + pem.dropLast(pem.count / 2)).utf8), Array(authority.rootDER),
            try with { $0.extensions = [TestRevocationList.criticalExtension(delta, [2, 1, 1])] },
            try with { $0.extensions = [TestRevocationList.criticalExtension(unknown, [5, 0])] },
            // indirectCRL
            try with {
                $0.extensions = [TestRevocationList.criticalExtension(distribution, [0x30, 3, 0x84, 1, 0xff])]
            },
            try with { $0.entryExtensions = [TestRevocationList.criticalExtension(unknown, [5, 0])] },
        ]
        for (index, file) in files.enumerated() {
            #expect(throws: RevocationError.self, "file \(index)") { _ = try RevocationLists(contentsOf: file) }
        }
        for length in stride(from: 1, to: der.count, by: 7) {
            #expect(throws: RevocationError.self) { _ = try RevocationLists(contentsOf: Array(der.prefix(length))) }
        }
    }

    @Test("a list past its next update stays in force and is named")
    func overdue() throws {
        let authority = try TestAuthority("late root")
        var late = try list(authority, [[1]])
        late.nextUpdate = Date() - 10
        let lists = try RevocationLists(contentsOf: late.der(authority.key))
        #expect(lists.overdue(at: Int64(Date().timeIntervalSince1970)).count == 1)
        #expect(lists.overdue(at: Int64(Date().timeIntervalSince1970) - 3600).isEmpty)
        let client = try material(authority, SessionPair.clientName, nil)
        late.serials = [try serial(client.certificateChain[0])]
        let ends = try pair(
            client, material(authority, SessionPair.serverName, store(late.der(authority.key))))
        #expect(ends.server.failure?.code == .certificateRevoked)
    }
}
