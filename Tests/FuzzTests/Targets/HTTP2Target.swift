@testable import HBONE

/// Frames and HPACK of a peer. The first byte says how the input is cut, whether the peer has said hello properly, and
/// how our side behaves; the rest is what the peer sends.
enum HTTP2Target {
    /// Small limits, so that they are met.
    private static let settings: HBONESettings = {
        var settings = HBONESettings.server
        settings.streamWindow = 1000
        settings.connectionWindow = 4000
        settings.maximumUnread = 6000
        settings.maximumFrameSize = 16384
        settings.maximumStreams = 5
        settings.maximumHeaderList = 1000
        return settings
    }()

    static func run(_ role: HTTP2Connection.Role, _ input: UnsafeRawBufferPointer) {
        guard let manner = input.first else { return }
        var connection = HTTP2Connection(role: role, settings: settings)
        connection.start()
        var bytes = Array(input.dropFirst())
        if manner & 1 == 0 {
            let preface = role == .server ? Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) : []
            bytes = preface + [0, 0, 0, 4, 0, 0, 0, 0, 0] + bytes
        }
        if role == .client { for _ in 0..<3 { _ = connection.open(ConnectRequest(authority: "a:1")) } }
        let piece = [Int.max, 1, 9, 50][Int(manner >> 1 & 3)]
        var owner = Owner(manner: Int(manner >> 3))
        var start = 0
        do throws(HTTP2Violation) {
            while start < bytes.count {
                let part = Array(bytes[start..<min(bytes.count, start + min(piece, bytes.count))])
                start += part.count
                var position = 0
                while let event = try connection.next(part.span.bytes, &position) {
                    precondition(position <= part.count)
                    owner.handle(event, of: part.count, &connection)
                }
                precondition(position == part.count, "input is left over")
                check(connection, owner.unread)
                // What is said in answer stays in proportion to what was asked.
                precondition(connection.control.count <= 1000 + 64 * bytes.count)
                if manner & 0x80 == 0 { connection.control.removeAll() }
            }
        } catch {
            connection.fail(error)
            precondition(error.code <= HTTP2Code.enhanceYourCalm)
            precondition(connection.streams.isEmpty)
        }
    }

    private static func check(_ connection: HTTP2Connection, _ unread: Int) {
        precondition(connection.unread == unread, "bytes are lost or counted twice")
        precondition(connection.streams.count <= settings.maximumStreams)
        precondition(connection.gathered.count <= settings.maximumFrameSize)
        precondition((connection.headerBlock?.bytes.count ?? 0) <= settings.maximumHeaderList + 256)
        precondition(connection.recentlyReset.count <= 128)
        precondition(connection.receiveWindow >= 0)
        precondition(connection.sendWindow <= HTTP2Connection.maximumWindow)
        for stream in connection.streams.values {
            precondition(stream.receiveWindow >= 0)
            precondition(stream.sendWindow <= HTTP2Connection.maximumWindow)
            precondition(!stream.isOver)
        }
    }

    /// Our side: answers, consumes, sends and gives up as its manner says.
    private struct Owner {
        let manner: Int
        var unread = 0
        private var turn = 0

        init(manner: Int) { self.manner = manner }

        mutating func handle(_ event: HTTP2Connection.Event, of count: Int, _ connection: inout HTTP2Connection) {
            turn += 1
            switch event {
            case .data(let stream, let range, _):
                precondition(range.lowerBound >= 0 && range.upperBound <= count)
                unread += range.count
                if (turn + manner) % 3 != 0 {
                    connection.consumed(stream, range.count)
                    unread -= range.count
                }
                let room = connection.sendRoom(stream)
                if room > 0 { _ = connection.data(stream, min(room, 100), end: (turn + manner) % 7 == 0) }
            case .request(let stream, let request, _):
                guard let request else { return connection.reply(stream, ConnectReply(status: 400), end: true) }
                precondition(!request.authority.isEmpty)
                switch (turn + manner) % 4 {
                case 0: connection.reply(stream, ConnectReply(status: 503), end: true)
                case 1: connection.reset(stream, HTTP2Code.cancel)
                default: connection.reply(stream, ConnectReply(status: 200), end: false)
                }
            case .reply(_, let reply, _): precondition((200...999).contains(reply.status))
            case .goAway: if manner % 5 == 0 { connection.goAway(last: connection.highestPeerStream) }
            case .reset, .failed, .windowOpened, .settings, .pong: break
            }
        }
    }
}
