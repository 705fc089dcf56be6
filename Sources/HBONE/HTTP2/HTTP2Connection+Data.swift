/// DATA frames of the peer (RFC 9113 section 6.1).
extension HTTP2Connection {
    mutating func beginData(_ header: FrameHeader) throws(HTTP2Violation) {
        guard header.stream != 0 else { throw misplaced("DATA on stream 0") }
        guard !isIdle(header.stream) else { throw misplaced("DATA on a stream that does not exist") }
        let padded = header.has(FrameFlag.padded)
        guard !padded || header.length > 0 else {
            throw HTTP2Violation(HTTP2Code.frameSizeError, "a padded DATA frame without a pad length")
        }
        guard header.length <= receiveWindow else {
            throw HTTP2Violation(HTTP2Code.flowControlError, "more DATA than the connection's window allows")
        }
        receiveWindow -= header.length
        let index = streams.index(forKey: header.stream)
        if let index {
            guard header.length <= streams.values[index].receiveWindow else {
                throw HTTP2Violation(HTTP2Code.flowControlError, "more DATA than the stream's window allows")
            }
            streams.values[index].receiveWindow -= header.length
        }
        if header.length == 0, !header.has(FrameFlag.endStream) { try budget.spend(.emptyData) }
        input = .data(
            DataFrame(
                stream: header.stream, end: header.has(FrameFlag.endStream), needsPadLength: padded,
                content: header.length, discard: index == nil))
    }

    /// Goes on with a DATA frame. Nil when there is no event; ``input`` says what comes next.
    mutating func read(
        _ frame: DataFrame, _ bytes: RawSpan, _ position: inout Int
    ) throws(HTTP2Violation) -> Event? {
        var frame = frame
        if frame.needsPadLength {
            guard position < bytes.byteCount else { return nil }
            frame.padding = Int(bytes.byte(at: position))
            position += 1
            frame.needsPadLength = false
            frame.content -= 1
            guard frame.padding <= frame.content else { throw misplaced("padding longer than its frame") }
            frame.content -= frame.padding
            // Padding is ours to drop, so its window goes back at once.
            returnWindow(frame.stream, frame.padding + 1)
        }
        let taken = min(frame.content, bytes.byteCount - position)
        let range = position..<position + taken
        guard frame.content == 0 || taken > 0 else {
            input = .data(frame)
            return nil
        }
        position += taken
        frame.content -= taken
        let isLast = frame.content == 0
        input = isLast ? (frame.padding > 0 ? .skip(frame.padding) : .frame) : .data(frame)
        guard let index = streams.index(forKey: frame.stream), !frame.discard else {
            creditConnection()
            // What comes after our own reset was on its way; anything else on a finished stream is wrong.
            if isLast, !recentlyReset.contains(frame.stream) {
                try budget.spend(.streamError)
                appendReset(frame.stream, HTTP2Code.streamClosed)
            }
            return nil
        }
        let problem: HTTP2Violation? =
            if streams.values[index].receivedEnd {
                HTTP2Violation(HTTP2Code.streamClosed, "DATA after the end of the stream")
            } else if role == .client, !streams.values[index].isAnswered {
                HTTP2Violation(HTTP2Code.protocolError, "DATA before the reply")
            } else {
                nil
            }
        if let problem {
            creditConnection()
            return try failStream(frame.stream, problem)
        }
        let end = isLast && frame.end
        guard taken > 0 || end else { return nil }
        unread += taken
        creditConnection()
        if end {
            streams.values[index].receivedEnd = true
            if streams.values[index].isOver { streams.remove(at: index) }
        }
        return .data(stream: frame.stream, range, end: end)
    }
}
