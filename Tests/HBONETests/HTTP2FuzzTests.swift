import Testing

@testable import HBONE

/// A generator that gives the same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}

@Suite("HTTP/2: whatever comes")
struct HTTP2FuzzTests {
    /// What must hold whatever the peer does.
    private func check(_ connection: HTTP2Connection, _ handedOut: Int) {
        #expect(connection.unread == handedOut)
        #expect(connection.streams.count <= connection.settings.maximumStreams)
        for stream in connection.streams.values {
            #expect(stream.receiveWindow >= 0)
            #expect(stream.sendWindow <= HTTP2Connection.maximumWindow)
            #expect(!stream.isOver)
        }
        #expect(connection.sendWindow <= HTTP2Connection.maximumWindow)
    }

    /// Feeds bytes in random pieces, checks ranges and counts, and consumes at random.
    private func run(_ role: HTTP2Connection.Role, _ bytes: [UInt8], _ random: inout SeededGenerator) {
        var connection = HTTP2Connection(role: role, settings: .server)
        connection.start()
        if role == .client { for _ in 0..<3 { _ = connection.open(ConnectRequest(authority: "a:1")) } }
        var unread = 0
        var start = 0
        do throws(HTTP2Violation) {
            while start < bytes.count {
                let part = Array(bytes[start..<min(bytes.count, start + Int.random(in: 1...200, using: &random))])
                start += part.count
                var position = 0
                while let event = try connection.next(part.span.bytes, &position) {
                    #expect(position <= part.count)
                    switch event {
                    case .data(let stream, let range, _):
                        #expect(range.upperBound <= part.count)
                        unread += range.count
                        if Bool.random(using: &random) {
                            connection.consumed(stream, range.count)
                            unread -= range.count
                        }
                    case .request(let stream, _, let end):
                        #expect(connection.streams[stream]?.receivedEnd == end)
                        if Bool.random(using: &random) {
                            connection.reply(stream, ConnectReply(status: 200), end: Bool.random(using: &random))
                        }
                    default: break
                    }
                }
                #expect(position == part.count)
                check(connection, unread)
                connection.control.removeAll()
            }
        } catch {
            connection.fail(error)
            #expect(error.code <= HTTP2Code.enhanceYourCalm)
        }
    }

    @Test("random bytes", arguments: 0..<20)
    func noise(seed: Int) {
        var random = SeededGenerator(UInt64(seed))
        for _ in 0..<100 {
            let bytes = (0..<Int.random(in: 1...600, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            run(.server, Frames.preface + Frames.settings + bytes, &random)
            run(.client, Frames.settings + bytes, &random)
            run(.server, bytes, &random)
        }
    }

    @Test("good frames, some of them bent", arguments: 0..<30)
    func mutations(seed: Int) {
        var random = SeededGenerator(UInt64(seed) &* 7919)
        for _ in 0..<50 {
            var bytes = Frames.settings
            for _ in 0..<40 { bytes += frame(&random) }
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            run(.server, Frames.preface + bytes, &random)
            run(.client, bytes, &random)
        }
    }

    private func frame(_ random: inout SeededGenerator) -> [UInt8] {
        let stream = UInt32.random(in: 0...6, using: &random) * 2 + 1
        let payload = [UInt8](repeating: 7, count: Int.random(in: 0...300, using: &random))
        switch Int.random(in: 0...11, using: &random) {
        case 0...2: return Frames.connect(stream, end: Int.random(in: 0...9, using: &random) == 0)
        case 3...5: return Frames.data(stream, payload, end: Int.random(in: 0...9, using: &random) == 0)
        case 6: return Frames.windowUpdate(stream, UInt32.random(in: 1...100_000, using: &random))
        case 7: return Frames.windowUpdate(0, UInt32.random(in: 1...100_000, using: &random))
        case 8: return Frames.reset(stream)
        case 9:
            return Frames.setting(
                UInt16.random(in: 1...8, using: &random), UInt32.random(in: 0...70_000, using: &random))
        case 10: return Frames.headers(stream, Frames.block([(":status", "200")]))
        default: return Frames.frame(FrameType.ping, 0, 0, [UInt8](repeating: 0, count: 8))
        }
    }
}
