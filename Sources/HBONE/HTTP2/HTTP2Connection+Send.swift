/// What we say.
extension HTTP2Connection {
    /// Says hello: preface (client), SETTINGS and the connection's window.
    mutating func start() {
        if role == .client {
            for index in 0..<Self.preface.utf8CodeUnitCount { control.append(Self.preface.utf8Start[index]) }
        }
        var parameters: [(UInt16, Int)] = [
            (SettingID.initialWindowSize, settings.streamWindow),
            (SettingID.maximumFrameSize, settings.maximumFrameSize),
            (SettingID.maximumHeaderListSize, settings.maximumHeaderList),
        ]
        if role == .client {
            parameters.append((SettingID.enablePush, 0))
        } else {
            parameters.append((SettingID.maximumConcurrentStreams, settings.maximumStreams))
        }
        control.append(FrameHeader(length: parameters.count * 6, type: FrameType.settings))
        for (id, value) in parameters {
            control.append(UInt8(id >> 8))
            control.append(UInt8(id & 0xff))
            control.append(bigEndian: UInt32(value))
        }
        settingsUnacknowledged += 1
        creditConnection()
    }

    // MARK: Streams

    /// Whether a request may be sent now.
    var canOpenNow: Bool {
        peerSettingsReceived && goAwayReceived == nil && goAwaySent == nil && nextStream < 0x7fff_ffff
            && streams.count < min(peerMaximumStreams, settings.maximumStreams)
    }

    /// Client: sends a request. ``canOpenNow`` must hold.
    mutating func open(_ request: ConnectRequest) -> UInt32 {
        let stream = nextStream
        nextStream += 2
        insert(stream)
        appendHeaders(stream, HTTP2FieldEncoder(request).block, end: false)
        return stream
    }

    /// Server: answers a request.
    mutating func reply(_ stream: UInt32, _ reply: ConnectReply, end: Bool) {
        guard let index = streams.index(forKey: stream), !streams.values[index].isAnswered else { return }
        streams.values[index].isAnswered = true
        streams.values[index].isTunnel = reply.isSuccess
        appendHeaders(stream, HTTP2FieldEncoder(reply).block, end: end)
        if end { didSendEnd(stream) }
    }

    private mutating func appendHeaders(_ stream: UInt32, _ block: [UInt8], end: Bool) {
        var rest = block[...]
        var type = FrameType.headers
        var flags: UInt8 = end ? FrameFlag.endStream : 0
        repeat {
            let piece = rest.prefix(peerMaximumFrame)
            rest = rest.dropFirst(piece.count)
            if rest.isEmpty { flags |= FrameFlag.endHeaders }
            control.append(FrameHeader(length: piece.count, type: type, flags: flags, stream: stream))
            control.append(contentsOf: piece)
            type = FrameType.continuation
            flags = 0
        } while !rest.isEmpty
    }

    /// How many bytes of payload one DATA frame of the stream may have now.
    func sendRoom(_ stream: UInt32) -> Int {
        guard let state = streams[stream], !state.sentEnd else { return 0 }
        return max(0, min(sendWindow, state.sendWindow, peerMaximumFrame))
    }

    /// The header of a DATA frame, whose payload (within ``sendRoom(_:)``) the caller puts behind it.
    mutating func data(_ stream: UInt32, _ count: Int, end: Bool) -> FrameHeader {
        if let index = streams.index(forKey: stream) {
            sendWindow -= count
            streams.values[index].sendWindow -= count
            if end { didSendEnd(stream) }
        }
        return FrameHeader(
            length: count, type: FrameType.data, flags: end ? FrameFlag.endStream : 0, stream: stream)
    }

    private mutating func didSendEnd(_ stream: UInt32) {
        guard let index = streams.index(forKey: stream) else { return }
        streams.values[index].sentEnd = true
        if streams.values[index].isOver { streams.remove(at: index) }
    }

    /// Gives a stream up. Does nothing for one that is over.
    mutating func reset(_ stream: UInt32, _ code: UInt32) {
        guard streams.removeValue(forKey: stream) != nil else { return }
        appendReset(stream, code)
    }

    // MARK: Connection

    mutating func ping(_ opaque: UInt64) {
        control.append(FrameHeader(length: 8, type: FrameType.ping))
        control.append(bigEndian: UInt32(opaque >> 32))
        control.append(bigEndian: UInt32(truncatingIfNeeded: opaque))
    }

    /// Announces that streams beyond `last` are not taken (2^31-1 for a first warning).
    mutating func goAway(last: UInt32, code: UInt32 = HTTP2Code.noError, debug: String = "") {
        goAwaySent = min(last, goAwaySent ?? last)
        let text = Array(debug.utf8.prefix(128))
        control.append(FrameHeader(length: 8 + text.count, type: FrameType.goAway))
        control.append(bigEndian: last)
        control.append(bigEndian: code)
        control.append(contentsOf: text)
    }

    /// Ends the connection after a broken rule: GOAWAY is the last frame.
    mutating func fail(_ violation: HTTP2Violation) {
        if peerSettingsReceived || role == .server {
            goAway(last: highestPeerStream, code: violation.code, debug: violation.reason)
        }
        streams.removeAll()
    }
}
