import Testing

@testable import HBONE

/// A way to break RFC 9113, and the error it must earn.
struct Offence: CustomTestStringConvertible, Sendable {
    let name: String
    let bytes: [UInt8]
    let code: UInt32
    var testDescription: String { name }

    init(_ name: String, _ bytes: [UInt8], _ code: UInt32) {
        self.name = name
        self.bytes = bytes
        self.code = code
    }
}

@Suite("HTTP/2: rules broken by the peer")
struct HTTP2ViolationTests {
    static let onServer: [Offence] = [
        Offence("DATA on stream 0", Frames.data(0, [1]), HTTP2Code.protocolError),
        Offence("DATA on an idle stream", Frames.data(1, [1]), HTTP2Code.protocolError),
        Offence("DATA on a server's stream", Frames.data(2, [1]), HTTP2Code.protocolError),
        Offence(
            "padding longer than DATA", Frames.connect(1) + Frames.frame(0, FrameFlag.padded, 1, [5, 1, 2]),
            HTTP2Code.protocolError),
        Offence(
            "padded DATA without a pad length", Frames.connect(1) + Frames.frame(0, FrameFlag.padded, 1),
            HTTP2Code.frameSizeError),
        Offence("HEADERS on stream 0", Frames.headers(0, Frames.connectBlock), HTTP2Code.protocolError),
        Offence("HEADERS on an even stream", Frames.headers(2, Frames.connectBlock), HTTP2Code.protocolError),
        Offence(
            "a stream number that goes back", Frames.connect(5) + Frames.connect(3), HTTP2Code.streamClosed),
        Offence(
            "HEADERS padding beyond the frame", Frames.frame(1, FrameFlag.padded | FrameFlag.endHeaders, 1, [200, 1]),
            HTTP2Code.protocolError),
        Offence(
            "HEADERS priority beyond the frame",
            Frames.frame(1, FrameFlag.priority | FrameFlag.endHeaders, 1, [1, 2]), HTTP2Code.protocolError),
        Offence(
            "a header block that is no HPACK", Frames.headers(1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            HTTP2Code.compressionError),
        Offence(
            "another frame inside a header block",
            Frames.headers(1, Frames.connectBlock, last: false)
                + Frames.frame(FrameType.ping, 0, 0, [UInt8](repeating: 0, count: 8)),
            HTTP2Code.protocolError),
        Offence(
            "CONTINUATION of another stream",
            Frames.headers(1, Frames.connectBlock, last: false) + Frames.frame(FrameType.continuation, 4, 3),
            HTTP2Code.protocolError),
        Offence("CONTINUATION out of nowhere", Frames.frame(FrameType.continuation, 4, 1), HTTP2Code.protocolError),
        Offence("PRIORITY of 4 bytes", Frames.frame(FrameType.priority, 0, 1, [0, 0, 0, 0]), HTTP2Code.frameSizeError),
        Offence(
            "PRIORITY on stream 0", Frames.frame(FrameType.priority, 0, 0, [0, 0, 0, 0, 0]), HTTP2Code.protocolError),
        Offence("RST_STREAM on stream 0", Frames.reset(0), HTTP2Code.protocolError),
        Offence("RST_STREAM on an idle stream", Frames.reset(7), HTTP2Code.protocolError),
        Offence(
            "RST_STREAM of 3 bytes", Frames.frame(FrameType.resetStream, 0, 1, [0, 0, 0]), HTTP2Code.frameSizeError),
        Offence("SETTINGS on a stream", Frames.frame(FrameType.settings, 0, 1), HTTP2Code.protocolError),
        Offence(
            "SETTINGS of 5 bytes", Frames.frame(FrameType.settings, 0, 0, [0, 1, 0, 0, 0]), HTTP2Code.frameSizeError),
        Offence(
            "SETTINGS acknowledgement with a payload", Frames.frame(FrameType.settings, FrameFlag.ack, 0, [0]),
            HTTP2Code.frameSizeError),
        Offence("ENABLE_PUSH of 2", Frames.setting(2, 2), HTTP2Code.protocolError),
        Offence("an initial window beyond 2^31-1", Frames.setting(4, 0x8000_0000), HTTP2Code.flowControlError),
        Offence("a maximum frame size of 1000", Frames.setting(5, 1000), HTTP2Code.protocolError),
        Offence("a maximum frame size of 2^24", Frames.setting(5, 1 << 24), HTTP2Code.protocolError),
        Offence(
            "an initial window that overflows a stream",
            Frames.connect(1) + Frames.windowUpdate(1, 0x7fff_0000) + Frames.setting(4, 0x7fff_ffff),
            HTTP2Code.flowControlError),
        Offence("PUSH_PROMISE", Frames.frame(FrameType.pushPromise, 4, 1, [0, 0, 0, 2]), HTTP2Code.protocolError),
        Offence(
            "PING of 7 bytes", Frames.frame(FrameType.ping, 0, 0, [UInt8](repeating: 0, count: 7)),
            HTTP2Code.frameSizeError),
        Offence(
            "PING on a stream", Frames.frame(FrameType.ping, 0, 1, [UInt8](repeating: 0, count: 8)),
            HTTP2Code.protocolError),
        Offence(
            "GOAWAY on a stream", Frames.frame(FrameType.goAway, 0, 1, [UInt8](repeating: 0, count: 8)),
            HTTP2Code.protocolError),
        Offence(
            "GOAWAY of 7 bytes", Frames.frame(FrameType.goAway, 0, 0, [UInt8](repeating: 0, count: 7)),
            HTTP2Code.frameSizeError),
        Offence(
            "WINDOW_UPDATE of 3 bytes", Frames.frame(FrameType.windowUpdate, 0, 0, [0, 0, 1]), HTTP2Code.frameSizeError),
        Offence("WINDOW_UPDATE by 0", Frames.windowUpdate(0, 0), HTTP2Code.protocolError),
        Offence("WINDOW_UPDATE on an idle stream", Frames.windowUpdate(1, 1), HTTP2Code.protocolError),
        Offence("a connection window beyond 2^31-1", Frames.windowUpdate(0, 0x7fff_ffff), HTTP2Code.flowControlError),
        Offence(
            "a frame beyond our maximum",
            Frames.connect(1) + [0x10, 0x00, 0x01, 0, 0, 0, 0, 0, 1], HTTP2Code.frameSizeError),
    ]

    @Test("a server ends the connection with the right code", arguments: onServer)
    func connectionErrors(offence: Offence) throws {
        for piece in [Int.max, 1, 3] {
            var connection = try HTTP2Connection.greeted(.server)
            let violation = #expect(throws: HTTP2Violation.self) { try connection.feed(offence.bytes, piece: piece) }
            #expect(violation?.code == offence.code)
            connection.fail(try #require(violation))
            let last = try #require(connection.sent().last)
            #expect(last.header.type == FrameType.goAway)
            #expect(Array(last.payload[4..<8]) == Frames.number(offence.code))
        }
    }

    @Test("the connection begins with the preface and SETTINGS")
    func beginning() throws {
        let wrong: [[UInt8]] = [
            Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8), Frames.preface.dropLast() + [0], Frames.settings,
            Frames.preface + Frames.connect(1), Frames.preface + Frames.settingsAcknowledgement,
            Frames.preface + Frames.windowUpdate(0, 1),
        ]
        for bytes in wrong {
            var connection = HTTP2Connection(role: .server, settings: .server)
            let violation = #expect(throws: HTTP2Violation.self) { try connection.feed(bytes) }
            #expect(violation?.code == HTTP2Code.protocolError)
        }
    }

    static let malformedRequests: [(String, [(String, String)])] = [
        ("no authority", [(":method", "CONNECT")]),
        ("empty authority", [(":method", "CONNECT"), (":authority", "")]),
        ("user in the authority", [(":method", "CONNECT"), (":authority", "a@b:1")]),
        ("scheme with CONNECT", [(":method", "CONNECT"), (":authority", "a:1"), (":scheme", "https")]),
        ("path with CONNECT", [(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")]),
        ("protocol with CONNECT", [(":method", "CONNECT"), (":authority", "a:1"), (":protocol", "websocket")]),
        ("two methods", [(":method", "CONNECT"), (":method", "CONNECT"), (":authority", "a:1")]),
        ("two authorities", [(":method", "CONNECT"), (":authority", "a:1"), (":authority", "b:1")]),
        ("no method", [(":authority", "a:1")]),
        ("a status in a request", [(":method", "CONNECT"), (":authority", "a:1"), (":status", "200")]),
        ("a pseudo field behind", [(":method", "CONNECT"), ("a", "b"), (":authority", "a:1")]),
        ("upper case", [(":method", "CONNECT"), (":authority", "a:1"), ("Baggage", "x")]),
        ("a space in a name", [(":method", "CONNECT"), (":authority", "a:1"), ("a b", "x")]),
        ("a line break in a value", [(":method", "CONNECT"), (":authority", "a:1"), ("a", "x\r\ny: z")]),
        ("a NUL in a value", [(":method", "CONNECT"), (":authority", "a:1"), ("a", "x\0")]),
        ("white space around a value", [(":method", "CONNECT"), (":authority", "a:1"), ("a", " x")]),
        ("connection", [(":method", "CONNECT"), (":authority", "a:1"), ("connection", "close")]),
        ("transfer-encoding", [(":method", "CONNECT"), (":authority", "a:1"), ("transfer-encoding", "chunked")]),
        ("te", [(":method", "CONNECT"), (":authority", "a:1"), ("te", "gzip")]),
        ("GET without path", [(":method", "GET"), (":authority", "a:1"), (":scheme", "https")]),
    ]

    @Test("a malformed request is reset, and the connection goes on", arguments: 0..<malformedRequests.count)
    func malformed(index: Int) throws {
        var connection = try HTTP2Connection.greeted(.server)
        #expect(try connection.feed(Frames.headers(1, Frames.block(Self.malformedRequests[index].1))) == [])
        let sent = connection.sent()
        #expect(sent.map(\.header.type) == [FrameType.resetStream])
        #expect(sent.first?.payload == Frames.number(HTTP2Code.protocolError))
        let events = try connection.feed(Frames.connect(3))
        #expect(events == [.request(stream: 3, ConnectRequest(authority: "10.0.0.1:80"), end: false)])
    }

    @Test("another method is a request all the same, for the owner to refuse")
    func otherMethod() throws {
        var connection = try HTTP2Connection.greeted(.server)
        let block = Frames.block([(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")])
        #expect(
            try connection.feed(Frames.headers(1, block, end: true)) == [.request(stream: 1, nil, end: true)])
    }

    static let streamOffences: [Offence] = [
        Offence(
            "DATA after END_STREAM", Frames.connect(1, end: true) + Frames.data(1, [1]), HTTP2Code.streamClosed),
        Offence(
            "a second header block", Frames.connect(1) + Frames.headers(1, Frames.block([("a", "b")]), end: true),
            HTTP2Code.protocolError),
        Offence(
            "WINDOW_UPDATE by 0 on a stream", Frames.connect(1) + Frames.windowUpdate(1, 0), HTTP2Code.protocolError),
        Offence(
            "a stream window beyond 2^31-1", Frames.connect(1) + Frames.windowUpdate(1, 0x7fff_ffff),
            HTTP2Code.flowControlError),
    ]

    @Test("a rule broken on one stream ends that stream", arguments: streamOffences)
    func streamErrors(offence: Offence) throws {
        var connection = try HTTP2Connection.greeted(.server)
        let events = try connection.feed(Frames.connect(3) + offence.bytes.replacingStream(1, by: 5))
        guard case .failed(stream: 5, let violation) = events.last else {
            Issue.record("no failure but \(events)")
            return
        }
        #expect(violation.code == offence.code)
        #expect(connection.sent().contains { $0.header.type == FrameType.resetStream && $0.header.stream == 5 })
        #expect(connection.streams.keys.sorted() == [3])
        // Frames that were on their way are read and forgotten.
        #expect(try connection.feed(Frames.data(5, [1, 2, 3]) + Frames.windowUpdate(5, 7) + Frames.reset(5)) == [])
        #expect(connection.control.isEmpty)
        #expect(connection.unread == 0)
    }

    @Test("a client does not take from a server what only clients do, nor replies that are none")
    func clientSide() throws {
        func offend(_ bytes: [UInt8]) throws -> (events: [HTTP2Connection.Event], violation: HTTP2Violation?) {
            var connection = try HTTP2Connection.greeted(.client)
            _ = connection.open(ConnectRequest(authority: "a:1"))
            do throws(HTTP2Violation) {
                return (try connection.feed(bytes), nil)
            } catch {
                return ([], error)
            }
        }
        #expect(try offend(Frames.setting(2, 1)).violation?.code == HTTP2Code.protocolError)
        #expect(try offend(Frames.headers(3, [0x88])).violation?.code == HTTP2Code.protocolError)
        #expect(try offend(Frames.headers(2, [0x88])).violation?.code == HTTP2Code.protocolError)
        #expect(try offend(Frames.data(3, [1])).violation?.code == HTTP2Code.protocolError)
        for bad in [[("x", "y")], [(":status", "20")], [(":status", "abc")], [(":status", "101")]] {
            guard case .failed(stream: 1, _) = try offend(Frames.headers(1, Frames.block(bad))).events.first else {
                Issue.record("\(bad) was taken")
                continue
            }
        }
        guard case .failed(stream: 1, _) = try offend(Frames.data(1, [1])).events.first else {
            Issue.record("DATA before the reply was taken")
            return
        }
        let interim = Frames.headers(1, Frames.block([(":status", "103")])) + Frames.headers(1, [0x88])
        #expect(try offend(interim).events == [.reply(stream: 1, ConnectReply(status: 200), end: false)])
    }
}

extension [UInt8] {
    /// The same frames on another stream.
    fileprivate func replacingStream(_ old: UInt32, by new: UInt32) -> [UInt8] {
        Frames.parse(self).flatMap { frame in
            Frames.frame(
                frame.header.type, frame.header.flags, frame.header.stream == old ? new : frame.header.stream,
                frame.payload)
        }
    }
}
