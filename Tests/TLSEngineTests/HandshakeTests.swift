import Foundation
import Mesh
import Testing

@testable import TLSEngine

@Suite("TLS handshake")
struct HandshakeTests {
    let authority: TestAuthority

    init() throws { authority = try TestAuthority() }

    @Test("two workloads of one CA meet, and know each other")
    func meets() throws {
        let pair = try SessionPair(authority)
        pair.handshake()
        #expect(pair.client.session.state == .established)
        #expect(pair.server.session.state == .established)
        #expect(pair.client.session.peerIdentity == SPIFFEIdentity(SessionPair.serverName))
        #expect(pair.server.session.peerIdentity == SPIFFEIdentity(SessionPair.clientName))
    }

    @Test("the key exchange is post-quantum and the cipher AES-128-GCM by default")
    func defaults() throws {
        let pair = try SessionPair(authority)
        pair.handshake()
        for end in [pair.client, pair.server] {
            #expect(end.session.groupName == "X25519MLKEM768")
            #expect(end.session.cipherName == "TLS_AES_128_GCM_SHA256")
        }
    }

    @Test("a peer without ML-KEM gets X25519", arguments: [true, false])
    func fallsBack(serverLacksIt: Bool) throws {
        let both = TLSContext.groups
        let client = try TLSContext(
            .client, authority.material(SessionPair.clientName), groups: serverLacksIt ? both : [29],
            clock: { Int64(Date().timeIntervalSince1970) })
        let server = try TLSContext(
            .server, authority.material(SessionPair.serverName), groups: serverLacksIt ? [29] : both,
            clock: { Int64(Date().timeIntervalSince1970) })
        let pair = try SessionPair(
            client: End(client, expecting: [SessionPair.serverName]), server: End(server))
        pair.handshake()
        #expect(pair.server.session.state == .established)
        #expect(pair.client.session.groupName == "X25519")
        #expect(pair.server.session.groupName == "X25519")
    }

    @Test("the handshake survives being cut anywhere", arguments: [1, 2, 5, 7, 100, 1000])
    func cut(piece: Int) throws {
        let pair = try SessionPair(authority)
        pair.handshake(piece: piece)
        #expect(pair.client.session.state == .established)
        #expect(pair.server.session.state == .established)
    }

    @Test("after the handshake no server name has been sent")
    func noServerName() throws {
        let pair = try SessionPair(authority)
        let hello = pair.client.receive([])
        // Extension 0 with any host name would carry the authority's or the peer's name in clear.
        #expect(!hello.contains(subsequence: Array("cluster.local".utf8)))
    }

    @Test("no session ticket is sent after the handshake")
    func noTicket() throws {
        let pair = try SessionPair(authority)
        var toServer = pair.client.receive([])
        let flight = pair.server.receive(toServer)
        toServer = pair.client.receive(flight)
        #expect(pair.server.receive(toServer).isEmpty)
        #expect(pair.server.session.state == .established)
    }

    @Test("a second connection resumes nothing: no pre-shared key is offered, and all of the handshake is made again")
    func noResumption() throws {
        let client = try TLSContext.client(authority.material(SessionPair.clientName))
        let server = try TLSContext.server(authority.material(SessionPair.serverName))
        var flights: [Int] = []
        for _ in 0..<2 {
            let pair = try SessionPair(client: End(client, expecting: [SessionPair.serverName]), server: End(server))
            let hello = pair.client.receive([])
            // 41 pre_shared_key and 42 early_data; 45 psk_key_exchange_modes is how a client asks for tickets.
            #expect(Set(try Self.extensions(ofHello: hello)).isDisjoint(with: [41, 42]))
            let flight = pair.server.receive(hello)
            flights.append(flight.count)
            #expect(pair.server.receive(pair.client.receive(flight)).isEmpty)
            #expect(pair.server.session.peerIdentity == SPIFFEIdentity(SessionPair.clientName))
        }
        // With its certificate again: a resumed handshake has none and is far shorter.
        #expect(abs(flights[0] - flights[1]) < 16)
    }

    /// The types of the extensions in a ClientHello record (RFC 8446 section 4.1.2).
    private static func extensions(ofHello record: [UInt8]) throws -> [Int] {
        var index = 5 + 4 + 2 + 32
        func number(_ count: Int) throws -> Int {
            try #require(index + count <= record.count)
            defer { index += count }
            return record[index..<index + count].reduce(0) { $0 << 8 | Int($1) }
        }
        index += try number(1)
        index += try number(2)
        index += try number(1)
        let end = try number(2) + index
        var types: [Int] = []
        while index < end {
            types.append(try number(2))
            index += try number(2)
        }
        return types
    }

    @Test("bytes behind the handshake in the same read are opened")
    func earlyBytes() throws {
        let pair = try SessionPair(authority)
        let hello = pair.client.receive([])
        let flight = pair.server.receive(hello)
        var finished = pair.client.receive(flight)
        #expect(pair.client.session.state == .established)
        finished += try pair.client.seal(Array("first".utf8)).output
        pair.server.receive(finished)
        #expect(pair.server.session.state == .established)
        #expect(pair.server.plaintext == Array("first".utf8))
    }

    @Test("a transport that ends in the handshake is an error, after close_notify it is none")
    func transportEnds() throws {
        let pair = try SessionPair(authority)
        #expect(pair.server.session.transportEnded()?.code == .truncated)
        pair.handshake()
        #expect(pair.server.session.transportEnded()?.code == .truncated)
        pair.server.receive(pair.client.close())
        #expect(pair.server.session.state == .peerClosed)
        #expect(pair.server.session.transportEnded() == nil)
    }

    @Test("material that does not hold together is refused when the context is made")
    func badMaterial() throws {
        let good = try authority.material(SessionPair.serverName)
        let other = try authority.material(SessionPair.serverName)
        func code(_ material: TLSMaterial) -> TLSError.Code? {
            do throws(TLSError) {
                _ = try TLSContext.server(material)
                return nil
            } catch {
                return error.code
            }
        }
        #expect(code(good) == nil)
        let cases = [
            TLSMaterial(certificateChain: [], privateKey: good.privateKey, roots: good.roots),
            TLSMaterial(certificateChain: [[1, 2, 3]], privateKey: good.privateKey, roots: good.roots),
            TLSMaterial(certificateChain: good.certificateChain, privateKey: [0x30, 0], roots: good.roots),
            TLSMaterial(certificateChain: good.certificateChain, privateKey: other.privateKey, roots: good.roots),
            TLSMaterial(certificateChain: good.certificateChain, privateKey: good.privateKey, roots: []),
            TLSMaterial(certificateChain: good.certificateChain, privateKey: good.privateKey, roots: [[9]]),
        ]
        for material in cases { #expect(code(material) == .invalidMaterial) }
        var leaf = TestAuthority.Leaf()
        leaf.uris = []
        #expect(code(try authority.material(leaf)) == .invalidMaterial)
    }
}

extension Array where Element: Equatable {
    func contains(subsequence other: [Element]) -> Bool {
        guard other.count <= count else { return false }
        return (0...(count - other.count)).contains { Array(self[$0..<$0 + other.count]) == other }
    }
}
