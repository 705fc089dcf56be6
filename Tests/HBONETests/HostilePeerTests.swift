import Glibc
import LinuxNetwork
import Mesh
import TLSEngine
import Testing

@testable import HBONE

/// A peer that says what the test wants: TCP, and TLS on it where wanted.
final class RawPeer {
    let descriptor: CInt
    private(set) var session: TLSSession?
    private var inbox: [UInt8] = []
    private(set) var plaintext: [UInt8] = []
    private(set) var sawEnd = false
    private(set) var failure: TLSError?

    init(_ descriptor: CInt, tls: Bool = true) throws {
        self.descriptor = descriptor
        if tls {
            session = try TLSSession(
                TestMaterial.client.get(), expectedIdentities: [SPIFFEIdentity(TestMaterial.serverName)!])
        }
    }

    deinit { _ = Glibc.close(descriptor) }

    var isEstablished: Bool { session?.state == .established }
    var frames: [(header: FrameHeader, payload: [UInt8])] { Frames.parse(plaintext) }

    func pump() {
        var buffer = [UInt8](repeating: 0, count: 65536)
        while !sawEnd {
            let got = recv(descriptor, &buffer, buffer.count, 0)
            if got > 0 { inbox += buffer[..<got] }
            if got == 0 || got < 0 && errno != EAGAIN { sawEnd = true }
            if got <= 0 { break }
        }
        guard let session, failure == nil else { return }
        let opened = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        let answer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 17, alignment: 16)
        defer {
            opened.deallocate()
            answer.deallocate()
        }
        var plaintextSpan = OutputRawSpan(buffer: opened, initializedCount: 0)
        var output = OutputRawSpan(buffer: answer, initializedCount: 0)
        var consumed = 0
        do throws(TLSError) {
            _ = try session.receive(inbox.span.bytes, consumed: &consumed, plaintext: &plaintextSpan, output: &output)
        } catch {
            failure = error
        }
        inbox.removeFirst(consumed)
        plaintext += opened[..<plaintextSpan.finalize(for: opened)]
        write(Array(answer[..<output.finalize(for: answer)]))
    }

    func write(_ bytes: [UInt8]) {
        if !bytes.isEmpty { _ = send(descriptor, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }
    }

    func say(_ bytes: [UInt8]) throws {
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: TLSSession.sealedSize(bytes.count) + 64, alignment: 16)
        defer { buffer.deallocate() }
        var output = OutputRawSpan(buffer: buffer, initializedCount: 0)
        let sealed = try session?.seal(bytes.span.bytes, output: &output)
        #expect(sealed == bytes.count)
        write(Array(buffer[..<output.finalize(for: buffer)]))
    }
}

@Suite("Tunnels: peers that do what they like")
struct HostilePeerTests {
    /// A server connection and a raw client.
    private struct Rig {
        let loop: EventLoop
        let owner = Owner()
        let server: HBONEConnection
        let peer: RawPeer

        init(_ settings: HBONESettings = .server, tls: Bool = true) throws {
            loop = try EventLoop()
            let (one, other) = try TestSockets.pair()
            peer = try RawPeer(one, tls: tls)
            server = try HBONEConnection.serve(
                FileDescriptor(owning: other), on: loop, context: TestMaterial.server.get(), settings: settings,
                delegate: owner)
        }

        func run(_ what: Comment, until condition: () -> Bool) throws {
            let limit = MonotonicClock.now + 10_000_000_000
            while !condition() {
                guard MonotonicClock.now < limit else {
                    Issue.record("waited in vain: \(what)")
                    return
                }
                peer.pump()
                try loop.runRound(waitAtMostMilliseconds: 1)
            }
        }

        func established() throws {
            try run("the handshake") { peer.isEstablished && owner.established == 1 }
        }
    }

    @Test("bytes that are not TLS")
    func notTLS() throws {
        let rig = try Rig(tls: false)
        rig.peer.write(Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
        try rig.run("the end") { rig.owner.closed == 1 && rig.peer.sawEnd }
        #expect(rig.owner.error?.tlsError?.code == .notTLS)
        #expect(rig.loop.pool.lent == 0)
    }

    @Test("HTTP/2 garbage inside good TLS is answered with GOAWAY, then the end")
    func garbage() throws {
        let rig = try Rig()
        try rig.established()
        try rig.peer.say(Array("POST / HTTP/1.1\r\n\r\n".utf8))
        try rig.run("the end") { rig.owner.closed == 1 && rig.peer.sawEnd }
        #expect(rig.owner.error?.code == .protocolError)
        let last = try #require(rig.peer.frames.last)
        #expect(last.header.type == FrameType.goAway)
        #expect(Array(last.payload[4..<8]) == Frames.number(HTTP2Code.protocolError))
        #expect(rig.peer.session?.state == .peerClosed)
        #expect(rig.loop.pool.lent == 0)
    }

    @Test("a method other than CONNECT gets 400")
    func otherMethod() throws {
        let rig = try Rig()
        try rig.established()
        let block = Frames.block([(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")])
        try rig.peer.say(Frames.preface + Frames.settings + Frames.headers(1, block, end: true))
        try rig.run("the answer") { rig.peer.frames.contains { $0.header.type == FrameType.headers } }
        let reply = try #require(rig.peer.frames.first { $0.header.type == FrameType.headers })
        // Entry 12 of the static table is 400.
        #expect(reply.payload == [0x8c] && reply.header.has(FrameFlag.endStream))
        #expect(rig.owner.requests.isEmpty && rig.server.streamCount == 0)
    }

    @Test("a client that connects and says nothing")
    func silent() throws {
        var settings = HBONESettings.server
        settings.handshakeTimeout = .milliseconds(50)
        let rig = try Rig(settings, tls: false)
        try rig.run("the timeout") { rig.owner.closed == 1 && rig.peer.sawEnd }
        #expect(rig.owner.error?.code == .handshakeTimedOut)
    }

    @Test("a client that sends its hello byte by byte and never ends")
    func slowHello() throws {
        var settings = HBONESettings.server
        settings.handshakeTimeout = .milliseconds(100)
        let rig = try Rig(settings, tls: false)
        // A hello that promises 16 KiB.
        rig.peer.write([22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc])
        try rig.run("the timeout") {
            rig.peer.write([0])
            return rig.owner.closed == 1
        }
        #expect(rig.owner.error?.code == .handshakeTimedOut)
        #expect(rig.loop.pool.lent == 0)
    }

    @Test("a client without SETTINGS")
    func noSettings() throws {
        var settings = HBONESettings.server
        settings.settingsTimeout = .milliseconds(50)
        let rig = try Rig(settings)
        try rig.established()
        try rig.run("the timeout") { rig.owner.closed == 1 && rig.peer.sawEnd }
        #expect(rig.owner.error?.code == .settingsTimedOut)
        #expect(rig.peer.frames.last?.header.type == FrameType.goAway)
    }

    @Test("a client that does not answer PING, and one that does")
    func ping() throws {
        var settings = HBONESettings.server
        settings.pingInterval = .milliseconds(20)
        settings.pingTimeout = .milliseconds(80)
        let rig = try Rig(settings)
        try rig.established()
        try rig.peer.say(Frames.preface + Frames.settings)
        var answered = 0
        func pings() -> [[UInt8]] {
            rig.peer.frames.filter { $0.header.type == FrameType.ping && !$0.header.has(FrameFlag.ack) }.map(\.payload)
        }
        try rig.run("three answers") {
            for payload in pings().dropFirst(answered) {
                do { try rig.peer.say(Frames.frame(FrameType.ping, FrameFlag.ack, 0, payload)) } catch { return true }
                answered += 1
            }
            return answered == 3
        }
        #expect(rig.owner.closed == 0)
        try rig.run("the timeout") { rig.owner.closed == 1 }
        #expect(rig.owner.error?.code == .peerUnresponsive)
    }

    @Test("drained: a warning, then the last word, and a client that answers no PING gets it all the same")
    func drainWithoutAnswer() throws {
        var settings = HBONESettings.server
        settings.pingInterval = .seconds(1)
        let rig = try Rig(settings)
        try rig.established()
        try rig.peer.say(Frames.preface + Frames.settings)
        rig.server.drain()
        func lastStreams() -> [[UInt8]] {
            rig.peer.frames.filter { $0.header.type == FrameType.goAway }.map { Array($0.payload.prefix(4)) }
        }
        try rig.run("the warning") { lastStreams() == [Frames.number(0x7fff_ffff)] }
        // A request that was on its way is still taken.
        let owner = StreamOwner()
        rig.owner.onRequest = { stream, _ in stream.accept(delegate: owner) }
        try rig.peer.say(Frames.connect(1))
        try rig.run("the request") { rig.owner.requests.count == 1 }
        try rig.run("the last word") { lastStreams() == [Frames.number(0x7fff_ffff), Frames.number(1)] }
        #expect(rig.owner.closed == 0, "the open stream goes on")
        try rig.peer.say(Frames.reset(1, HTTP2Code.internalError))
        try rig.run("the end") { rig.owner.closed == 1 && owner.ends.count == 1 }
        #expect(rig.owner.error == nil)
    }

    @Test("a client that ends under an open stream")
    func endsUnderStream() throws {
        let rig = try Rig()
        try rig.established()
        let owner = StreamOwner()
        rig.owner.onRequest = { stream, _ in stream.accept(delegate: owner) }
        try rig.peer.say(Frames.preface + Frames.settings + Frames.connect(1) + Frames.data(1, [1, 2, 3]))
        try rig.run("the answer") { rig.peer.frames.contains { $0.header.type == FrameType.headers } }
        Sockets.shutdownWrite(rig.peer.descriptor)
        try rig.run("the end") { owner.ends.count == 1 && rig.owner.closed == 1 }
        #expect(owner.error?.code == .connectionLost)
        #expect(rig.server.http2.unread == 0)
    }

    @Test("a peer that asks for answers and never reads is given up, not stored for")
    func neverReads() throws {
        var settings = HBONESettings.server
        settings.lingerTimeout = .milliseconds(10)
        let rig = try Rig(settings)
        try rig.established()
        try rig.peer.say(Frames.preface + Frames.settings)
        let ping = Frames.frame(FrameType.ping, 0, 0, [UInt8](repeating: 1, count: 8))
        let many = Array(repeatElement(ping, count: 400).joined())
        let limit = MonotonicClock.now + 10_000_000_000
        while rig.owner.closed == 0, MonotonicClock.now < limit {
            try rig.peer.say(many)
            try rig.loop.runRound(waitAtMostMilliseconds: 1)
        }
        #expect(rig.owner.error?.http2Code == HTTP2Code.enhanceYourCalm)
    }

    @Test("garbage records after the handshake", arguments: 0..<10)
    func brokenRecords(seed: Int) throws {
        var random = SeededGenerator(UInt64(seed))
        let rig = try Rig()
        try rig.established()
        rig.peer.write((0..<500).map { _ in UInt8.random(in: 0...255, using: &random) } + [23, 3, 3, 255, 255])
        try rig.run("the end") { rig.owner.closed == 1 }
        #expect(rig.owner.error?.tlsError?.code == .protocolViolation)
        #expect(rig.loop.pool.lent == 0)
    }
}
