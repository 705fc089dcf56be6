import Testing

@testable import HBONE

@Suite("HTTP/2: floods")
struct HTTP2FloodTests {
    /// Feeds frames until the connection objects; returns how many it took and why it stopped.
    private func flood(
        _ role: HTTP2Connection.Role = .server, limit: Int = 100_000, before: [UInt8] = [],
        _ frame: (Int) -> [UInt8]
    ) throws -> (count: Int, violation: HTTP2Violation?, held: Int) {
        var connection = try HTTP2Connection.greeted(role)
        _ = try connection.feed(before)
        for index in 0..<limit {
            do throws(HTTP2Violation) {
                _ = try connection.feed(frame(index))
            } catch {
                return (index, error, connection.control.count)
            }
            // What goes out is taken by the socket.
            connection.control.removeAll()
        }
        return (limit, nil, 0)
    }

    @Test("rapid reset")
    func rapidReset() throws {
        let result = try flood { Frames.connect(UInt32($0 * 2 + 1)) + Frames.reset(UInt32($0 * 2 + 1)) }
        #expect(result.violation?.code == HTTP2Code.enhanceYourCalm)
        #expect(result.count == 1000)
    }

    @Test("streams that were answered may be reset as often as one likes")
    func honestResets() throws {
        var connection = try HTTP2Connection.greeted(.server)
        for index in 0..<5000 {
            let stream = UInt32(index * 2 + 1)
            _ = try connection.feed(Frames.connect(stream))
            connection.reply(stream, ConnectReply(status: 200), end: false)
            _ = try connection.feed(Frames.reset(stream))
        }
        #expect(connection.streams.isEmpty)
    }

    @Test("PING, SETTINGS, PRIORITY, unknown frames, empty DATA, malformed requests")
    func cheapFrames() throws {
        let ping = Frames.frame(FrameType.ping, 0, 0, [UInt8](repeating: 0, count: 8))
        let cases: [(String, [UInt8], (Int) -> [UInt8])] = [
            ("PING", [], { _ in ping }), ("SETTINGS", [], { _ in Frames.settings }),
            ("PRIORITY", [], { _ in Frames.frame(FrameType.priority, 0, 1, [0, 0, 0, 0, 0]) }),
            ("unknown", [], { _ in Frames.frame(0x77, 0, 0, [1, 2, 3]) }),
            ("empty DATA", Frames.connect(1), { _ in Frames.data(1, []) }),
            ("malformed", [], { Frames.headers(UInt32($0 * 2 + 1), Frames.block([("a", "b")])) }),
            ("acknowledgements", [], { _ in Frames.settingsAcknowledgement }),
        ]
        for (name, before, frame) in cases {
            let result = try flood(before: before, frame)
            #expect(result.violation?.code == HTTP2Code.enhanceYourCalm, "\(name)")
            #expect(result.count <= 1001, "\(name)")
        }
    }

    @Test("the budget comes back with time")
    func refill() throws {
        var connection = try HTTP2Connection.greeted(.server)
        let ping = Frames.frame(FrameType.ping, 0, 0, [UInt8](repeating: 0, count: 8))
        for _ in 0..<20 {
            for _ in 0..<900 { _ = try connection.feed(ping) }
            connection.refillBudget()
        }
    }

    @Test("CONTINUATION without end, in number and in size")
    func continuation() throws {
        let begin = Frames.headers(1, Frames.connectBlock, last: false)
        let empty = try flood(before: begin) { _ in Frames.frame(FrameType.continuation, 0, 1) }
        #expect(empty.violation?.code == HTTP2Code.enhanceYourCalm)
        #expect(empty.count <= 32)
        let large = try flood(before: begin) { _ in
            Frames.frame(FrameType.continuation, 0, 1, [UInt8](repeating: 0x41, count: 16000))
        }
        #expect(large.violation?.code == HTTP2Code.enhanceYourCalm)
        #expect(large.count <= 5)
    }

    @Test("a header list that unpacks to more than we allow")
    func headerBomb() throws {
        var connection = try HTTP2Connection.greeted(.server)
        // One long field put into the table, then named again and again by one byte each.
        let value = [UInt8](repeating: 0x61, count: 3000)
        var block: [UInt8] = [0x40, 1, 0x62, 127, 0xb9, 0x16] + value
        block += [UInt8](repeating: 0xbe, count: 1000)
        let violation = #expect(throws: HTTP2Violation.self) {
            try connection.feed(Frames.headers(1, block))
        }
        #expect(violation?.code == HTTP2Code.enhanceYourCalm)
    }

    @Test("streams beyond the limit are refused")
    func tooManyStreams() throws {
        var settings = HBONESettings.server
        settings.maximumStreams = 2
        var connection = try HTTP2Connection.greeted(.server, settings)
        _ = try connection.feed(Frames.connect(1) + Frames.connect(3))
        #expect(try connection.feed(Frames.connect(5)) == [])
        let sent = connection.sent()
        #expect(sent.map(\.header.stream) == [5])
        #expect(sent.first?.payload == Frames.number(HTTP2Code.refusedStream))
        // One ends, and there is room again.
        _ = try connection.feed(Frames.reset(1))
        #expect(try connection.feed(Frames.connect(7)).count == 1)
    }
}
