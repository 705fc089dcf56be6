/// Flow control in both directions (RFC 9113 section 5.2).
extension HTTP2Connection {
    /// The application took bytes of a stream (or never will, because the stream is over): the peer may send as many
    /// again.
    mutating func consumed(_ stream: UInt32, _ count: Int) {
        unread -= count
        returnWindow(stream, count)
    }

    mutating func returnWindow(_ stream: UInt32, _ count: Int) {
        creditConnection()
        guard let index = streams.index(forKey: stream), !streams.values[index].receivedEnd else { return }
        streams.values[index].returned += count
        let returned = streams.values[index].returned
        // Rarely, and in large steps.
        guard returned >= settings.streamWindow / 2 else { return }
        streams.values[index].returned = 0
        streams.values[index].receiveWindow += returned
        appendWindowUpdate(stream, returned)
    }

    /// Keeps the connection's window open while less than the limit is unread, so that one slow application does not
    /// hold up the other streams.
    mutating func creditConnection() {
        let wanted = min(settings.connectionWindow, settings.maximumUnread - unread)
        let missing = wanted - receiveWindow
        guard
            missing >= settings.connectionWindow / 2
                || receiveWindow < settings.connectionWindow / 4 && missing >= 65536
        else { return }
        receiveWindow += missing
        appendWindowUpdate(0, missing)
    }

    mutating func appendWindowUpdate(_ stream: UInt32, _ increment: Int) {
        control.append(FrameHeader(length: 4, type: FrameType.windowUpdate, stream: stream))
        control.append(bigEndian: UInt32(increment))
    }

    mutating func receiveWindowUpdate(
        _ header: FrameHeader, _ increment: Int
    ) throws(HTTP2Violation) -> Event? {
        guard header.stream != 0 else {
            guard increment > 0 else { throw misplaced("WINDOW_UPDATE by 0") }
            let before = sendWindow
            sendWindow += increment
            guard sendWindow <= Self.maximumWindow else {
                throw HTTP2Violation(HTTP2Code.flowControlError, "the connection's window overflows")
            }
            return before <= 0 ? .windowOpened(stream: 0) : nil
        }
        guard !isIdle(header.stream) else { throw misplaced("WINDOW_UPDATE on a stream that does not exist") }
        guard let index = streams.index(forKey: header.stream) else { return nil }
        guard increment > 0 else {
            return try failStream(header.stream, misplaced("WINDOW_UPDATE by 0"))
        }
        let before = streams.values[index].sendWindow
        streams.values[index].sendWindow += increment
        guard streams.values[index].sendWindow <= Self.maximumWindow else {
            return try failStream(
                header.stream, HTTP2Violation(HTTP2Code.flowControlError, "the stream's window overflows"))
        }
        return before <= 0 && before + increment > 0 ? .windowOpened(stream: header.stream) : nil
    }
}
