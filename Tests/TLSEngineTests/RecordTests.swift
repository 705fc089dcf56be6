import CNIOBoringSSL
import Mesh
import Testing

@testable import TLSEngine

@Suite("TLS records after the handshake")
struct RecordTests {
    let pair: SessionPair

    init() throws {
        pair = try SessionPair(TestAuthority())
        pair.handshake()
        try #require(pair.client.session.state == .established)
        try #require(pair.server.session.state == .established)
    }

    private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) } }

    @Test("content of any size arrives, both ways", arguments: [1, 2, 100, 16383, 16384, 16385, 100_000, 262_144])
    func sizes(count: Int) throws {
        let content = bytes(count)
        let (sealed, output) = try pair.client.seal(content)
        #expect(sealed == count)
        #expect(output.count == TLSSession.sealedSize(count))
        pair.server.receive(output)
        #expect(pair.server.plaintext == content)
        pair.client.receive(try pair.server.seal(content).output)
        #expect(pair.client.plaintext == content)
    }

    @Test("records cut at every place")
    func everySplit() throws {
        let (_, output) = try pair.client.seal(bytes(40))
        let (_, more) = try pair.client.seal(bytes(3))
        let stream = output + more
        for place in 0...stream.count {
            let fresh = try SessionPair(TestAuthority())
            fresh.handshake()
            let whole = try fresh.client.seal(bytes(40)).output + fresh.client.seal(bytes(3)).output
            fresh.server.receive(Array(whole[..<place]))
            fresh.server.receive(Array(whole[place...]))
            #expect(fresh.server.plaintext == bytes(40) + bytes(3))
        }
    }

    @Test("what does not fit is left for later")
    func outputFull() throws {
        let content = bytes(50_000)
        let (sealed, output) = try pair.client.seal(content, room: 20_000)
        #expect(sealed == TLSSession.contentFitting(20_000))
        #expect(sealed == 16384 + 20_000 - 16406 - 22)
        let (rest, more) = try pair.client.seal(Array(content[sealed...]))
        #expect(sealed + rest == content.count)
        pair.server.receive(output + more)
        #expect(pair.server.plaintext == content)
        #expect(try pair.client.seal(content, room: 22).sealed == 0)
    }

    @Test("a changed byte anywhere is noticed")
    func forgery() throws {
        let (_, output) = try pair.client.seal(bytes(20))
        for place in [0, 1, 3, 5, 12, output.count - 1] {
            let fresh = try SessionPair(TestAuthority())
            fresh.handshake()
            var record = try fresh.client.seal(bytes(20)).output
            record[place] ^= 1
            // A longer length would only wait for more.
            if place == 3 { record += bytes(256) }
            let alert = fresh.server.receive(record)
            #expect(fresh.server.failure?.code == .protocolViolation)
            #expect(fresh.server.plaintext.isEmpty)
            #expect(!alert.isEmpty)
            fresh.client.receive(alert)
            #expect(fresh.client.failure?.code == .peerAlert)
        }
    }

    @Test("a record that is replayed or left out is noticed")
    func order() throws {
        let first = try pair.client.seal(bytes(5)).output
        pair.server.receive(first)
        pair.server.receive(first)
        #expect(pair.server.failure?.code == .protocolViolation)
    }

    @Test("close_notify ends one direction, and nothing can be sealed behind ours")
    func closing() throws {
        pair.server.receive(pair.client.close())
        #expect(pair.server.session.state == .peerClosed)
        #expect(throws: TLSError.self) { try pair.client.seal([1]) }
        // Our own direction is still open.
        pair.client.receive(try pair.server.seal([7]).output)
        #expect(pair.client.plaintext == [7])
        #expect(pair.client.close().isEmpty)
    }

    @Test("empty records without end are refused")
    func emptyRecords() throws {
        var stream: [UInt8] = []
        for _ in 0..<100 { stream += pair.client.sealRecord(23, []) }
        pair.server.receive(stream)
        #expect(pair.server.failure?.code == .protocolViolation)
    }

    @Test("what is left over can be kept and restored")
    func keeping() throws {
        let output = try pair.client.seal(bytes(1000)).output
        let session = pair.server.session
        let beginning = Array(output[..<100])
        session.keep(beginning.span.bytes)
        #expect(session.keptCount == 100)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 2000, alignment: 16)
        defer { buffer.deallocate() }
        var front = OutputRawSpan(buffer: buffer, initializedCount: 0)
        session.restore(into: &front)
        #expect(front.finalize(for: buffer) == 100)
        #expect(Array(buffer[..<100]) == Array(output[..<100]))
        #expect(session.keptCount == 0)
    }

    @Test(
        "the library's own session opens our records and we open its, key updates included",
        arguments: [0x1301, 0x1302])
    func interoperates(cipher: UInt16) throws {
        let authority = try TestAuthority()
        let server = try End(TLSContext.server(authority.material(SessionPair.serverName)))
        let client = try LibraryClient(authority.material(SessionPair.clientName), cipher: cipher)
        while client.step(server) {}
        #expect(server.session.state == .established)
        #expect(server.session.cipherName == CipherSuite(rawValue: cipher)?.name)
        let content = bytes(50_000)
        server.receive(client.write(content))
        #expect(server.plaintext == content)
        #expect(client.read(try server.seal(content).output, content.count) == content)
        // The client asks for new keys in both directions; both go on.
        server.receive(client.updateKeys())
        server.receive(client.write(content))
        #expect(server.plaintext == content + content)
        let answer = try server.seal(content).output
        // Our KeyUpdate precedes the content.
        #expect(answer.count == TLSSession.sealedSize(content.count) + 5 + 22)
        #expect(client.read(answer, content.count) == content)
        #expect(client.read(try server.seal(content).output, content.count) == content)
        client.shutDown(server)
        #expect(server.session.state == .peerClosed)
    }
}

extension End {
    /// A record that a good peer would not send.
    func sealRecord(_ type: UInt8, _ content: [UInt8]) -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: content.count + 100, alignment: 16)
        defer { buffer.deallocate() }
        var output = OutputRawSpan(buffer: buffer, initializedCount: 0)
        let appended = session.appendRecord(type, content, &output)
        #expect(appended)
        return Array(buffer[..<output.finalize(for: buffer)])
    }
}

/// A client that leaves everything to the library, records included.
private final class LibraryClient {
    private let context: TLSContext
    private let ssl: OpaquePointer

    init(_ material: TLSMaterial, cipher: UInt16) throws {
        context = try TLSContext.client(material)
        ssl = try #require(SSL_new(context.handle))
        SSL_set_custom_verify(ssl, SSL_VERIFY_PEER) { _, _ in ssl_verify_ok }
        #expect(SSL_set1_tls13_ciphers(ssl, [cipher], nil, 1) == 1)
        SSL_set_connect_state(ssl)
        SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()))
    }

    deinit { SSL_free(ssl) }

    private func drain() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 200_000)
        let count = BIO_read(SSL_get_wbio(ssl), &bytes, CInt(bytes.count))
        return count > 0 ? Array(bytes[..<Int(count)]) : []
    }

    func step(_ server: End) -> Bool {
        _ = SSL_do_handshake(ssl)
        let output = drain()
        let answer = server.receive(output)
        BIO_write(SSL_get_rbio(ssl), answer, CInt(answer.count))
        return !output.isEmpty
    }

    func write(_ bytes: [UInt8]) -> [UInt8] {
        #expect(SSL_write(ssl, bytes, CInt(bytes.count)) == CInt(bytes.count))
        return drain()
    }

    func read(_ records: [UInt8], _ count: Int) -> [UInt8] {
        BIO_write(SSL_get_rbio(ssl), records, CInt(records.count))
        var content: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16384)
        while content.count < count {
            let got = SSL_read(ssl, &buffer, CInt(buffer.count))
            guard got > 0 else { break }
            content += buffer[..<Int(got)]
        }
        return content
    }

    func updateKeys() -> [UInt8] {
        #expect(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
        return []
    }

    func shutDown(_ server: End) {
        SSL_shutdown(ssl)
        server.receive(drain())
    }
}
