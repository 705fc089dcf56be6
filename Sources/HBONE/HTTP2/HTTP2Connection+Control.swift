/// Frames about streams and the connection as such.
extension HTTP2Connection {
    mutating func receiveReset(_ header: FrameHeader, _ code: UInt32) throws(HTTP2Violation) -> Event? {
        guard header.stream != 0 else { throw misplaced("RST_STREAM on stream 0") }
        guard !isIdle(header.stream) else { throw misplaced("RST_STREAM on a stream that does not exist") }
        guard let stream = streams.removeValue(forKey: header.stream) else { return nil }
        if role == .server, !stream.isAnswered { try budget.spend(.prematureReset) }
        return .reset(stream: header.stream, code: code)
    }

    mutating func receiveSettings(_ header: FrameHeader, _ payload: RawSpan) throws(HTTP2Violation) -> Event? {
        guard header.stream == 0 else { throw misplaced("SETTINGS on a stream") }
        if header.has(FrameFlag.ack) {
            guard payload.byteCount == 0 else {
                throw HTTP2Violation(HTTP2Code.frameSizeError, "an acknowledgement of SETTINGS with a payload")
            }
            guard settingsUnacknowledged > 0 else {
                try budget.spend(.ignored)
                return nil
            }
            settingsUnacknowledged -= 1
            return nil
        }
        guard payload.byteCount % 6 == 0 else {
            throw HTTP2Violation(HTTP2Code.frameSizeError, "SETTINGS of \(payload.byteCount) bytes")
        }
        try budget.spend(.settings)
        let windowBefore = peerInitialWindow
        for offset in stride(from: 0, to: payload.byteCount, by: 6) {
            try apply(UInt16(payload.integer(at: offset, 2)), payload.integer(at: offset + 2, 4))
        }
        try shiftWindows(by: peerInitialWindow - windowBefore)
        peerSettingsReceived = true
        control.append(FrameHeader(length: 0, type: FrameType.settings, flags: FrameFlag.ack))
        return .settings
    }

    mutating func apply(_ id: UInt16, _ value: UInt32) throws(HTTP2Violation) {
        switch id {
        case SettingID.enablePush:
            guard value == 0 || value == 1 && role == .server else { throw misplaced("ENABLE_PUSH of \(value)") }
        case SettingID.maximumConcurrentStreams: peerMaximumStreams = Int(value)
        case SettingID.initialWindowSize:
            guard Int(value) <= Self.maximumWindow else {
                throw HTTP2Violation(HTTP2Code.flowControlError, "an initial window of \(value)")
            }
            peerInitialWindow = Int(value)
        case SettingID.maximumFrameSize:
            guard (16384...16_777_215).contains(value) else { throw misplaced("a maximum frame size of \(value)") }
            peerMaximumFrame = Int(value)
        default: break
        }
    }

    /// A changed initial window moves the windows of all streams, below zero too (section 6.9.2).
    mutating func shiftWindows(by difference: Int) throws(HTTP2Violation) {
        guard difference != 0 else { return }
        for index in streams.indices {
            streams.values[index].sendWindow += difference
            guard streams.values[index].sendWindow <= Self.maximumWindow else {
                throw HTTP2Violation(HTTP2Code.flowControlError, "a stream's window overflows")
            }
        }
    }

    mutating func receivePing(_ header: FrameHeader, _ payload: RawSpan) throws(HTTP2Violation) -> Event? {
        guard header.stream == 0 else { throw misplaced("PING on a stream") }
        try budget.spend(.ping)
        guard !header.has(FrameFlag.ack) else {
            return .pong(UInt64(payload.integer(at: 0, 4)) << 32 | UInt64(payload.integer(at: 4, 4)))
        }
        control.append(FrameHeader(length: 8, type: FrameType.ping, flags: FrameFlag.ack))
        control.append(payload)
        return nil
    }

    mutating func receiveGoAway(_ header: FrameHeader, _ payload: RawSpan) throws(HTTP2Violation) -> Event? {
        guard header.stream == 0 else { throw misplaced("GOAWAY on a stream") }
        guard payload.byteCount >= 8 else {
            throw HTTP2Violation(HTTP2Code.frameSizeError, "GOAWAY of \(payload.byteCount) bytes")
        }
        try budget.spend(.settings)
        let last = payload.integer(at: 0, 4) & 0x7fff_ffff
        goAwayReceived = min(last, goAwayReceived ?? last)
        var debug: [UInt8] = []
        debug.append(payload.extracting(8..<min(payload.byteCount, 8 + 128)))
        return .goAway(
            last: last, code: payload.integer(at: 4, 4),
            debug: String(decoding: debug.map { (0x20...0x7e).contains($0) ? $0 : 0x3f }, as: UTF8.self))
    }
}
