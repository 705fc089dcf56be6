import Testing

@testable import HBONE

@Suite("HTTP/2: windows, ends and greetings")
struct HTTP2FlowTests {
    private func small(_ stream: Int = 1000, _ connection: Int = 4000) -> HBONESettings {
        var settings = HBONESettings()
        settings.streamWindow = stream
        settings.connectionWindow = connection + 65535
        settings.maximumUnread = 4 * settings.connectionWindow
        return settings
    }

    @Test("the greeting says our limits")
    func greeting() throws {
        var client = HTTP2Connection(role: .client, settings: .client)
        client.start()
        #expect(Array(client.control.prefix(24)) == Frames.preface)
        let frames = Frames.parse(Array(client.control.dropFirst(24)))
        #expect(frames.map(\.header.type) == [FrameType.settings, FrameType.windowUpdate])
        #expect(frames[1].payload == Frames.number((16 << 20) - 65535))
        #expect(frames[0].payload.chunked(6).contains([0, 4] + Frames.number(4 << 20)))
        #expect(frames[0].payload.chunked(6).contains([0, 5] + Frames.number(1 << 20)))
        #expect(frames[0].payload.chunked(6).contains([0, 2] + Frames.number(0)))
        var server = HTTP2Connection(role: .server, settings: .server)
        server.start()
        let said = Frames.parse(server.control)
        #expect(said[0].payload.chunked(6).contains([0, 3] + Frames.number(200)))
        #expect(said[0].payload.chunked(6).contains([0, 6] + Frames.number(64 << 10)))
    }

    @Test("two of ours understand each other, in pieces of any size", arguments: [1, 4, 9, 10, 64, Int.max])
    func eachOther(piece: Int) throws {
        var client = HTTP2Connection(role: .client, settings: .client)
        var server = HTTP2Connection(role: .server, settings: .server)
        client.start()
        server.start()
        var bytes = client.control
        client.control.removeAll()
        #expect(try server.feed(bytes, piece: piece) == [.settings])
        bytes = server.control
        server.control.removeAll()
        #expect(try client.feed(bytes, piece: piece) == [.settings])
        let request = ConnectRequest(
            authority: "10.0.0.1:80", baggage: "k8s.cluster.name=Kubernetes,k8s.namespace.name=x",
            forwarded: "for=\"10.1.1.1:4000\"", traceparent: "00-00000000000000000000000000000001-0000000000000001-00")
        for expected in [UInt32(1), 3, 5] {
            #expect(client.open(request) == expected)
            bytes = client.control
            client.control.removeAll()
            #expect(try server.feed(bytes, piece: piece) == [.request(stream: expected, request, end: false)])
            let reply = ConnectReply(status: 200, headers: [HeaderField("baggage", "a=b")])
            server.reply(expected, reply, end: false)
            bytes = server.control
            server.control.removeAll()
            #expect(try client.feed(bytes, piece: piece) == [.reply(stream: expected, reply, end: false)])
        }
    }

    @Test("DATA is given as ranges, its end with the last piece")
    func ranges() throws {
        var connection = try HTTP2Connection.greeted(.server)
        let bytes = Frames.connect(1) + Frames.data(1, [1, 2, 3]) + Frames.data(1, [4], end: true)
        let events = try connection.feed(bytes)
        let start = Frames.connect(1).count + 9
        #expect(
            events.dropFirst() == [
                .data(stream: 1, start..<start + 3, end: false), .data(stream: 1, start + 12..<start + 13, end: true),
            ])
        var cut = try HTTP2Connection.greeted(.server)
        let pieces = try cut.feed(Frames.connect(1) + Frames.data(1, [1, 2, 3], end: true), piece: 1)
        #expect(
            pieces.dropFirst() == [
                .data(stream: 1, 0..<1, end: false), .data(stream: 1, 0..<1, end: false),
                .data(stream: 1, 0..<1, end: true),
            ])
    }

    @Test("padding is dropped, and its window comes back")
    func padding() throws {
        var connection = try HTTP2Connection.greeted(.server, small())
        _ = try connection.feed(Frames.connect(1))
        for _ in 0..<100 {
            let events = try connection.feed(
                Frames.frame(0, FrameFlag.padded, 1, [200, 7] + [UInt8](repeating: 0, count: 200)), piece: 50)
            #expect(events == [.data(stream: 1, 10..<11, end: false)])
            connection.consumed(1, 1)
        }
        let only = try connection.feed(Frames.frame(0, FrameFlag.padded | FrameFlag.endStream, 1, [3, 0, 0, 0]))
        #expect(only.count == 1)
        #expect(connection.streams[1]?.receivedEnd == true)
    }

    @Test("a stream may not send beyond its window")
    func streamWindow() throws {
        var connection = try HTTP2Connection.greeted(.server, small())
        _ = try connection.feed(Frames.connect(1) + Frames.data(1, [UInt8](repeating: 0, count: 1000)))
        let violation = #expect(throws: HTTP2Violation.self) { try connection.feed(Frames.data(1, [1])) }
        #expect(violation?.code == HTTP2Code.flowControlError)
    }

    @Test("the window comes back only as bytes are consumed, and in large steps")
    func returning() throws {
        var connection = try HTTP2Connection.greeted(.server, small())
        _ = try connection.feed(Frames.connect(1) + Frames.data(1, [UInt8](repeating: 0, count: 900)))
        connection.control.removeAll()
        connection.consumed(1, 499)
        #expect(connection.control.isEmpty)
        connection.consumed(1, 1)
        let sent = connection.sent()
        #expect(sent.map(\.header.stream) == [1])
        #expect(sent.first?.payload == Frames.number(500))
        #expect(connection.unread == 400)
    }

    @Test("14. slow streams do not take the connection's window from others, up to the limit of unread bytes")
    func connectionWindow() throws {
        var settings = HBONESettings()
        settings.streamWindow = 1 << 20
        settings.connectionWindow = 1 << 20
        settings.maximumUnread = 3 << 20
        var connection = try HTTP2Connection.greeted(.server, settings)
        var granted = 1 << 20
        var sentBytes = 0
        let chunk = [UInt8](repeating: 0, count: 1 << 16)
        func collect() {
            for frame in connection.sent() where frame.header.type == FrameType.windowUpdate && frame.header.stream == 0
            {
                granted += Int(FrameHeader.number(frame.payload))
            }
        }
        // Streams whose applications take nothing.
        for stream in stride(from: UInt32(1), to: 9, by: 2) {
            _ = try connection.feed(Frames.connect(stream))
            for _ in 0..<16 where sentBytes + chunk.count <= granted {
                _ = try connection.feed(Frames.data(stream, chunk))
                sentBytes += chunk.count
                collect()
            }
        }
        #expect(connection.unread == sentBytes)
        #expect(sentBytes > 2 << 20)
        #expect(granted <= 3 << 20)
        // When they take it after all, everything is as at the start.
        for stream in stride(from: UInt32(1), to: 9, by: 2) {
            for _ in 0..<12 { connection.consumed(stream, min(1 << 16, connection.unread)) }
        }
        connection.consumed(1, connection.unread)
        collect()
        #expect(granted - sentBytes > 1 << 19)
    }

    @Test("what we send obeys both windows and the frame size")
    func sending() throws {
        var connection = try HTTP2Connection.greeted(.client)
        _ = try connection.feed(Frames.setting(4, 100))
        let stream = connection.open(ConnectRequest(authority: "a:1"))
        #expect(connection.sendRoom(stream) == 100)
        let header = connection.data(stream, 60, end: false)
        #expect(header == FrameHeader(length: 60, type: 0, flags: 0, stream: 1))
        #expect(connection.sendRoom(stream) == 40)
        _ = connection.data(stream, 40, end: false)
        #expect(connection.sendRoom(stream) == 0)
        // The peer takes back what it gave: below zero.
        _ = try connection.feed(Frames.setting(4, 50))
        #expect(connection.sendRoom(stream) == 0)
        #expect(try connection.feed(Frames.windowUpdate(1, 50)) == [])
        #expect(try connection.feed(Frames.windowUpdate(1, 1)) == [.windowOpened(stream: 1)])
        #expect(connection.sendRoom(stream) == 1)
        _ = try connection.feed(Frames.windowUpdate(1, 1_000_000))
        #expect(connection.sendRoom(stream) == 16384)
        _ = try connection.feed(Frames.setting(5, 1 << 20))
        #expect(connection.sendRoom(stream) == 65535 - 100)
        _ = connection.data(stream, 65435, end: false)
        #expect(try connection.feed(Frames.windowUpdate(0, 5)) == [.windowOpened(stream: 0)])
        #expect(connection.sendRoom(stream) == 5)
    }

    @Test("a stream is over when both have said so")
    func ends() throws {
        var connection = try HTTP2Connection.greeted(.server)
        _ = try connection.feed(Frames.connect(1) + Frames.data(1, [], end: true))
        #expect(connection.streams[1]?.receivedEnd == true)
        connection.reply(1, ConnectReply(status: 200), end: false)
        #expect(connection.data(1, 0, end: true).flags == FrameFlag.endStream)
        #expect(connection.streams.isEmpty)
        _ = try connection.feed(Frames.connect(3))
        connection.reply(3, ConnectReply(status: 401), end: true)
        #expect(connection.streams[3]?.sentEnd == true)
        _ = try connection.feed(Frames.data(3, [], end: true))
        #expect(connection.streams.isEmpty)
    }

    @Test("the peer's stream limit and GOAWAY hold requests back")
    func limits() throws {
        var connection = HTTP2Connection(role: .client, settings: .client)
        #expect(!connection.canOpenNow)
        connection.start()
        _ = try connection.feed(Frames.setting(3, 1))
        #expect(connection.canOpenNow)
        _ = connection.open(ConnectRequest(authority: "a:1"))
        #expect(!connection.canOpenNow)
        _ = try connection.feed(Frames.setting(3, 2))
        #expect(connection.canOpenNow)
        let goAway = Frames.frame(FrameType.goAway, 0, 0, Frames.number(1) + Frames.number(0) + Array("bye".utf8))
        #expect(try connection.feed(goAway) == [.goAway(last: 1, code: 0, debug: "bye")])
        #expect(!connection.canOpenNow)
    }

    @Test("after our GOAWAY, later requests are refused for another try")
    func draining() throws {
        var connection = try HTTP2Connection.greeted(.server)
        _ = try connection.feed(Frames.connect(1))
        connection.goAway(last: 0x7fff_ffff)
        #expect(try connection.feed(Frames.connect(3)).count == 1)
        connection.goAway(last: connection.highestPeerStream)
        connection.control.removeAll()
        #expect(try connection.feed(Frames.connect(5)) == [])
        #expect(connection.sent().first?.payload == Frames.number(HTTP2Code.refusedStream))
    }

    @Test("PING is answered with its own bytes")
    func ping() throws {
        var connection = try HTTP2Connection.greeted(.server)
        let opaque: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
        #expect(try connection.feed(Frames.frame(FrameType.ping, 0, 0, opaque)) == [])
        #expect(connection.control == Frames.frame(FrameType.ping, FrameFlag.ack, 0, opaque))
        #expect(
            try connection.feed(Frames.frame(FrameType.ping, FrameFlag.ack, 0, opaque))
                == [.pong(0x0102_0304_0506_0708)])
    }

    @Test("a request longer than the peer's frames goes on in CONTINUATION")
    func longRequest() throws {
        var client = try HTTP2Connection.greeted(.client)
        var server = try HTTP2Connection.greeted(.server)
        let request = ConnectRequest(
            authority: "a:1", headers: [HeaderField("baggage", String(repeating: "\u{7e}{", count: 18000))])
        _ = client.open(request)
        let frames = client.sent()
        #expect(frames.map(\.header.type) == [FrameType.headers, FrameType.continuation, FrameType.continuation])
        let bytes = frames.flatMap { Frames.frame($0.header.type, $0.header.flags, $0.header.stream, $0.payload) }
        #expect(try server.feed(bytes) == [.request(stream: 1, request, end: false)])
    }
}

extension FrameHeader {
    static func number(_ bytes: [UInt8]) -> UInt32 { bytes.span.bytes.integer(at: 0, 4) }
}

extension [UInt8] {
    fileprivate func chunked(_ size: Int) -> [[UInt8]] {
        stride(from: 0, to: count, by: size).map { Array(self[$0..<Swift.min($0 + size, count)]) }
    }
}
