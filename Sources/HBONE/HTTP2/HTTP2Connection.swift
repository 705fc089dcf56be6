import NIOCore
import NIOHPACK

/// One side of an HTTP/2 connection for CONNECT tunnels (RFC 9113), as a value without any I/O.
///
/// Bytes of the peer go into ``next(_:_:)``, which gives events; frames to be sent gather in ``control``, in order.
/// The payload of DATA frames never passes through: a received one is an event with a range of the input, and for one
/// to be sent only the header is made here.
struct HTTP2Connection {
    enum Role {
        case server, client
    }

    enum Event: Equatable {
        /// Server: a request; `nil` stands for a well-formed one that is no CONNECT.
        case request(stream: UInt32, ConnectRequest?, end: Bool)
        /// Client: the answer.
        case reply(stream: UInt32, ConnectReply, end: Bool)
        /// Payload, as a range of the input. `end`: nothing follows.
        case data(stream: UInt32, Range<Int>, end: Bool)
        /// The peer gave the stream up; it is over.
        case reset(stream: UInt32, code: UInt32)
        /// The peer broke a rule on this stream, which has been reset; it is over.
        case failed(stream: UInt32, HTTP2Violation)
        /// Bytes may be sent again on this stream; 0 stands for all.
        case windowOpened(stream: UInt32)
        /// The peer's SETTINGS are in force.
        case settings
        case pong(UInt64)
        /// The peer takes no more streams beyond `last`.
        case goAway(last: UInt32, code: UInt32, debug: String)
    }

    private enum Input {
        case preface(matched: Int)
        case frame
        /// The payload of a frame other than DATA, gathered because it came in pieces.
        case payload(FrameHeader)
        case data(DataFrame)
        case skip(Int)
    }

    private struct DataFrame {
        let stream: UInt32
        let end: Bool
        var needsPadLength: Bool
        var content: Int
        var padding = 0
        /// On a stream that is over: read and forgotten.
        let discard: Bool
    }

    private struct HeaderBlock {
        let stream: UInt32
        let end: Bool
        var bytes: [UInt8]
        var continuations = 0
    }

    static let preface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    static let maximumWindow = Int(Int32.max)
    private static let maximumContinuations = 32

    let role: Role
    let settings: HBONESettings
    /// Frames to be sent before any DATA, in order.
    var control: [UInt8] = []
    var streams: [UInt32: HTTP2Stream] = [:]
    private(set) var peerSettingsReceived = false
    /// How many streams the peer lets us have open.
    private(set) var peerMaximumStreams = Int(UInt32.max)
    private(set) var peerMaximumFrame = 16384
    private(set) var peerInitialWindow = 65535
    var sendWindow = 65535
    /// Payload handed out that the application has not taken.
    private(set) var unread = 0
    /// The highest stream number the peer has used (server).
    private(set) var highestPeerStream: UInt32 = 0
    /// The next stream number of ours (client).
    var nextStream: UInt32 = 1
    var goAwaySent: UInt32?
    private(set) var goAwayReceived: UInt32?
    var encoder: HPACKEncoder

    private var decoder: HPACKDecoder
    private var budget = HTTP2Budget()
    private var input: Input
    private var gathered: [UInt8] = []
    private var headerBlock: HeaderBlock?
    private var receiveWindow = 65535
    private var settingsUnacknowledged = 0
    /// Streams we reset a short while ago, whose frames may still be on the way.
    private var recentlyReset: [UInt32] = []

    init(role: Role, settings: HBONESettings) {
        self.role = role
        self.settings = settings
        let allocator = ByteBufferAllocator()
        encoder = HPACKEncoder(allocator: allocator)
        decoder = HPACKDecoder(
            allocator: allocator, maxDynamicTableSize: 4096, maxHeaderListSize: settings.maximumHeaderList)
        input = role == .server ? .preface(matched: 0) : .frame
    }

    // MARK: Input

    /// Reads on at `position` until there is an event or the input is used up (nil).
    /// - Throws: A broken rule. The connection must end with ``fail(_:)`` then.
    mutating func next(_ bytes: RawSpan, _ position: inout Int) throws(HTTP2Violation) -> Event? {
        while true {
            switch input {
            case .preface(let matched):
                guard position < bytes.byteCount else { return nil }
                try readPreface(bytes, &position, matched)
            case .frame:
                guard let header = gatherHeader(bytes, &position) else { return nil }
                if let event = try begin(header, bytes, &position) { return event }
            case .payload(let header):
                let wanted = min(header.length - gathered.count, bytes.byteCount - position)
                for index in position..<position + wanted { gathered.append(bytes.byte(at: index)) }
                position += wanted
                guard gathered.count == header.length else { return nil }
                let payload = gathered
                gathered = []
                input = .frame
                if let event = try handle(header, payload.span.bytes) { return event }
            case .data(let frame):
                guard let event = try read(frame, bytes, &position) else {
                    if case .data = input, position == bytes.byteCount { return nil }
                    continue
                }
                return event
            case .skip(let count):
                let skipped = min(count, bytes.byteCount - position)
                position += skipped
                input = skipped == count ? .frame : .skip(count - skipped)
                if skipped < count { return nil }
            }
        }
    }

    private mutating func readPreface(
        _ bytes: RawSpan, _ position: inout Int, _ matched: Int
    ) throws(HTTP2Violation) {
        var matched = matched
        while position < bytes.byteCount, matched < Self.preface.utf8CodeUnitCount {
            guard bytes.byte(at: position) == Self.preface.utf8Start[matched] else {
                throw HTTP2Violation(HTTP2Code.protocolError, "the peer does not speak HTTP/2")
            }
            position += 1
            matched += 1
        }
        input = matched == Self.preface.utf8CodeUnitCount ? .frame : .preface(matched: matched)
    }

    /// The next frame header, when all of it is there.
    private mutating func gatherHeader(_ bytes: RawSpan, _ position: inout Int) -> FrameHeader? {
        if gathered.isEmpty, bytes.byteCount - position >= FrameHeader.size {
            position += FrameHeader.size
            return FrameHeader(bytes, at: position - FrameHeader.size)
        }
        while position < bytes.byteCount, gathered.count < FrameHeader.size {
            gathered.append(bytes.byte(at: position))
            position += 1
        }
        guard gathered.count == FrameHeader.size else { return nil }
        let header = FrameHeader(gathered.span.bytes)
        gathered = []
        return header
    }

    private mutating func begin(
        _ header: FrameHeader, _ bytes: RawSpan, _ position: inout Int
    ) throws(HTTP2Violation) -> Event? {
        guard header.length <= settings.maximumFrameSize else {
            throw HTTP2Violation(HTTP2Code.frameSizeError, "a frame of \(header.length) bytes")
        }
        guard peerSettingsReceived || header.type == FrameType.settings && !header.has(FrameFlag.ack) else {
            throw HTTP2Violation(HTTP2Code.protocolError, "the first frame is not SETTINGS")
        }
        if let block = headerBlock {
            guard header.type == FrameType.continuation, header.stream == block.stream else {
                throw HTTP2Violation(HTTP2Code.protocolError, "a header block was interrupted")
            }
        }
        switch header.type {
        case FrameType.data:
            try beginData(header)
            return nil
        case FrameType.headers, FrameType.continuation:
            let limit = settings.maximumHeaderList + 256
            guard header.length + (headerBlock?.bytes.count ?? 0) <= limit else {
                throw HTTP2Violation(HTTP2Code.enhanceYourCalm, "a header block beyond \(limit) bytes")
            }
        case FrameType.settings, FrameType.goAway:
            guard header.length <= 16384 else {
                throw HTTP2Violation(HTTP2Code.enhanceYourCalm, "a frame of type \(header.type) beyond 16384 bytes")
            }
        case FrameType.pushPromise:
            throw HTTP2Violation(HTTP2Code.protocolError, "PUSH_PROMISE, which we never allowed")
        case FrameType.priority, FrameType.resetStream, FrameType.ping, FrameType.windowUpdate:
            try checkFixedSize(header)
        default:
            try budget.spend(.ignored)
            input = .skip(header.length)
            return nil
        }
        guard bytes.byteCount - position >= header.length else {
            gathered.reserveCapacity(header.length)
            input = .payload(header)
            return nil
        }
        position += header.length
        return try handle(header, bytes.extracting(position - header.length..<position))
    }

    private func checkFixedSize(_ header: FrameHeader) throws(HTTP2Violation) {
        let size =
            switch header.type {
            case FrameType.ping: 8
            case FrameType.priority: 5
            default: 4
            }
        guard header.length == size else {
            throw HTTP2Violation(
                HTTP2Code.frameSizeError, "a frame of type \(header.type) with \(header.length) bytes")
        }
    }

    private mutating func handle(_ header: FrameHeader, _ payload: RawSpan) throws(HTTP2Violation) -> Event? {
        switch header.type {
        case FrameType.headers: return try receiveHeaders(header, payload)
        case FrameType.continuation: return try receiveContinuation(header, payload)
        case FrameType.priority:
            guard header.stream != 0 else { throw misplaced("PRIORITY on stream 0") }
            try budget.spend(.ignored)
            return nil
        case FrameType.resetStream: return try receiveReset(header, payload.integer(at: 0, 4))
        case FrameType.settings: return try receiveSettings(header, payload)
        case FrameType.ping: return try receivePing(header, payload)
        case FrameType.goAway: return try receiveGoAway(header, payload)
        case FrameType.windowUpdate:
            return try receiveWindowUpdate(header, Int(payload.integer(at: 0, 4) & 0x7fff_ffff))
        default: return nil
        }
    }

    private func misplaced(_ what: String) -> HTTP2Violation { HTTP2Violation(HTTP2Code.protocolError, what) }

    /// Whether a stream of this number has not been used yet.
    private func isIdle(_ stream: UInt32) -> Bool {
        stream & 1 == 0 || (role == .server ? stream > highestPeerStream : stream >= nextStream)
    }

    // MARK: DATA

    private mutating func beginData(_ header: FrameHeader) throws(HTTP2Violation) {
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
    private mutating func read(
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

    // MARK: Windows

    /// The application took bytes of a stream (or never will, because the stream is over): the peer may send as many
    /// again.
    mutating func consumed(_ stream: UInt32, _ count: Int) {
        unread -= count
        returnWindow(stream, count)
    }

    private mutating func returnWindow(_ stream: UInt32, _ count: Int) {
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
    private mutating func creditConnection() {
        let wanted = min(settings.connectionWindow, settings.maximumUnread - unread)
        let missing = wanted - receiveWindow
        guard missing >= settings.connectionWindow / 2 || receiveWindow < settings.connectionWindow / 4 && missing >= 65536
        else { return }
        receiveWindow += missing
        appendWindowUpdate(0, missing)
    }

    private mutating func appendWindowUpdate(_ stream: UInt32, _ increment: Int) {
        control.append(FrameHeader(length: 4, type: FrameType.windowUpdate, stream: stream))
        control.append(bigEndian: UInt32(increment))
    }

    private mutating func receiveWindowUpdate(
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

    // MARK: Header blocks

    private mutating func receiveHeaders(
        _ header: FrameHeader, _ payload: RawSpan
    ) throws(HTTP2Violation) -> Event? {
        guard header.stream != 0 else { throw misplaced("HEADERS on stream 0") }
        guard header.stream & 1 == 1 else { throw misplaced("HEADERS on a stream of the server") }
        guard role == .server || !isIdle(header.stream) else {
            throw misplaced("HEADERS on a stream that does not exist")
        }
        var start = 0
        var end = payload.byteCount
        if header.has(FrameFlag.padded) {
            guard end > 0 else { throw HTTP2Violation(HTTP2Code.frameSizeError, "HEADERS without a pad length") }
            start = 1
            end -= Int(payload.byte(at: 0))
        }
        if header.has(FrameFlag.priority) { start += 5 }
        guard start <= end else { throw misplaced("padding or priority longer than its frame") }
        var block = HeaderBlock(stream: header.stream, end: header.has(FrameFlag.endStream), bytes: [])
        block.bytes.append(payload.extracting(start..<end))
        guard header.has(FrameFlag.endHeaders) else {
            headerBlock = block
            return nil
        }
        return try complete(block)
    }

    private mutating func receiveContinuation(
        _ header: FrameHeader, _ payload: RawSpan
    ) throws(HTTP2Violation) -> Event? {
        guard var block = headerBlock else { throw misplaced("CONTINUATION without HEADERS") }
        headerBlock = nil
        block.continuations += 1
        guard block.continuations <= Self.maximumContinuations else {
            throw HTTP2Violation(HTTP2Code.enhanceYourCalm, "too many CONTINUATION frames")
        }
        block.bytes.append(payload)
        guard header.has(FrameFlag.endHeaders) else {
            headerBlock = block
            return nil
        }
        return try complete(block)
    }

    private mutating func complete(_ block: HeaderBlock) throws(HTTP2Violation) -> Event? {
        // Decoded in any case: the compression state is the connection's.
        let fields: HPACKHeaders
        do {
            var buffer = ByteBuffer(bytes: block.bytes)
            fields = try decoder.decodeHeaders(from: &buffer)
        } catch is NIOHPACKErrors.MaxHeaderListSizeViolation {
            throw HTTP2Violation(HTTP2Code.enhanceYourCalm, "a header list beyond \(settings.maximumHeaderList) bytes")
        } catch {
            throw HTTP2Violation(HTTP2Code.compressionError, "a header block that cannot be decoded")
        }
        return role == .server ? try receiveRequest(block, fields) : try receiveReply(block, fields)
    }

    private mutating func receiveRequest(
        _ block: HeaderBlock, _ fields: HPACKHeaders
    ) throws(HTTP2Violation) -> Event? {
        let stream = block.stream
        guard isIdle(stream) else {
            if streams[stream] != nil {
                return try failStream(stream, misplaced("a second header block on a tunnel"))
            }
            guard recentlyReset.contains(stream) else {
                throw HTTP2Violation(HTTP2Code.streamClosed, "HEADERS on a stream that is over")
            }
            return nil
        }
        highestPeerStream = stream
        if let last = goAwaySent, stream > last {
            // The client had not heard of our GOAWAY; it tries elsewhere.
            return try refuse(stream, HTTP2Code.refusedStream, .ignored)
        }
        guard streams.count < settings.maximumStreams else {
            return try refuse(stream, HTTP2Code.refusedStream, .streamError)
        }
        switch HTTP2Fields.request(fields) {
        case nil: return try refuse(stream, HTTP2Code.protocolError, .streamError)
        case .other:
            try budget.spend(.streamError)
            insert(stream, receivedEnd: block.end)
            return .request(stream: stream, nil, end: block.end)
        case .connect(let request):
            insert(stream, receivedEnd: block.end)
            return .request(stream: stream, request, end: block.end)
        }
    }

    mutating func insert(_ stream: UInt32, receivedEnd: Bool = false) {
        streams[stream] = HTTP2Stream(
            sendWindow: peerInitialWindow, receiveWindow: settings.streamWindow, receivedEnd: receivedEnd)
    }

    private mutating func refuse(
        _ stream: UInt32, _ code: UInt32, _ kind: HTTP2Budget.Kind
    ) throws(HTTP2Violation) -> Event? {
        try budget.spend(kind)
        appendReset(stream, code)
        return nil
    }

    private mutating func receiveReply(
        _ block: HeaderBlock, _ fields: HPACKHeaders
    ) throws(HTTP2Violation) -> Event? {
        let stream = block.stream
        guard let index = streams.index(forKey: stream) else {
            guard recentlyReset.contains(stream) else {
                throw HTTP2Violation(HTTP2Code.streamClosed, "HEADERS on a stream that is over")
            }
            return nil
        }
        guard !streams.values[index].receivedEnd else {
            return try failStream(stream, HTTP2Violation(HTTP2Code.streamClosed, "HEADERS after the end of the stream"))
        }
        if streams.values[index].isAnswered {
            guard !streams.values[index].isTunnel, block.end, HTTP2Fields.areTrailers(fields) else {
                return try failStream(stream, misplaced("a second header block on a tunnel"))
            }
            streams.values[index].receivedEnd = true
            if streams.values[index].isOver { streams.remove(at: index) }
            return .data(stream: stream, 0..<0, end: true)
        }
        guard let reply = HTTP2Fields.reply(fields), reply.status != 101 else {
            return try failStream(stream, misplaced("a malformed reply"))
        }
        if reply.status < 200 {
            guard !block.end else { return try failStream(stream, misplaced("an interim reply that ends the stream")) }
            try budget.spend(.ignored)
            return nil
        }
        streams.values[index].isAnswered = true
        streams.values[index].isTunnel = reply.isSuccess
        if block.end {
            streams.values[index].receivedEnd = true
            if streams.values[index].isOver { streams.remove(at: index) }
        }
        return .reply(stream: stream, reply, end: block.end)
    }

    // MARK: Other frames

    private mutating func receiveReset(_ header: FrameHeader, _ code: UInt32) throws(HTTP2Violation) -> Event? {
        guard header.stream != 0 else { throw misplaced("RST_STREAM on stream 0") }
        guard !isIdle(header.stream) else { throw misplaced("RST_STREAM on a stream that does not exist") }
        guard let stream = streams.removeValue(forKey: header.stream) else { return nil }
        if role == .server, !stream.isAnswered { try budget.spend(.prematureReset) }
        return .reset(stream: header.stream, code: code)
    }

    private mutating func receiveSettings(_ header: FrameHeader, _ payload: RawSpan) throws(HTTP2Violation) -> Event? {
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

    private mutating func apply(_ id: UInt16, _ value: UInt32) throws(HTTP2Violation) {
        switch id {
        case SettingID.headerTableSize:
            do {
                try encoder.setDynamicTableSize(Int(min(value, 4096)))
            } catch {
                throw HTTP2Violation(HTTP2Code.compressionError, "a header table size that cannot be used")
            }
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
    private mutating func shiftWindows(by difference: Int) throws(HTTP2Violation) {
        guard difference != 0 else { return }
        for index in streams.indices {
            streams.values[index].sendWindow += difference
            guard streams.values[index].sendWindow <= Self.maximumWindow else {
                throw HTTP2Violation(HTTP2Code.flowControlError, "a stream's window overflows")
            }
        }
    }

    private mutating func receivePing(_ header: FrameHeader, _ payload: RawSpan) throws(HTTP2Violation) -> Event? {
        guard header.stream == 0 else { throw misplaced("PING on a stream") }
        try budget.spend(.ping)
        guard !header.has(FrameFlag.ack) else {
            return .pong(UInt64(payload.integer(at: 0, 4)) << 32 | UInt64(payload.integer(at: 4, 4)))
        }
        control.append(FrameHeader(length: 8, type: FrameType.ping, flags: FrameFlag.ack))
        control.append(payload)
        return nil
    }

    private mutating func receiveGoAway(_ header: FrameHeader, _ payload: RawSpan) throws(HTTP2Violation) -> Event? {
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

    // MARK: Endings

    /// Resets a stream whose peer broke a rule.
    private mutating func failStream(_ stream: UInt32, _ violation: HTTP2Violation) throws(HTTP2Violation) -> Event {
        try budget.spend(.streamError)
        streams[stream] = nil
        appendReset(stream, violation.code)
        return .failed(stream: stream, violation)
    }

    mutating func appendReset(_ stream: UInt32, _ code: UInt32) {
        control.append(FrameHeader(length: 4, type: FrameType.resetStream, stream: stream))
        control.append(bigEndian: code)
        if recentlyReset.count == 128 { recentlyReset.removeFirst(64) }
        recentlyReset.append(stream)
    }

    /// Lets the peer have its share of cheap frames again. To be called every ten seconds or so.
    mutating func refillBudget() {
        budget.refill()
    }

    mutating func expectSettingsAcknowledgement() { settingsUnacknowledged += 1 }

    mutating func grantConnectionWindow() { creditConnection() }
}

extension [UInt8] {
    mutating func append(_ bytes: RawSpan) {
        reserveCapacity(count + bytes.byteCount)
        for index in 0..<bytes.byteCount { append(bytes.byte(at: index)) }
    }
}
