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

    enum Input {
        case preface(matched: Int)
        case frame
        /// The payload of a frame other than DATA, gathered because it came in pieces.
        case payload(FrameHeader)
        case data(DataFrame)
        case skip(Int)
    }

    struct DataFrame {
        let stream: UInt32
        let end: Bool
        var needsPadLength: Bool
        var content: Int
        var padding = 0
        /// On a stream that is over: read and forgotten.
        let discard: Bool
    }

    struct HeaderBlock {
        let stream: UInt32
        let end: Bool
        var bytes: [UInt8]
        var continuations = 0
    }

    static let preface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    static let maximumWindow = Int(Int32.max)
    static let maximumContinuations = 32

    let role: Role
    let settings: HBONESettings
    /// Frames to be sent before any DATA, in order.
    var control: [UInt8] = []
    var streams: [UInt32: HTTP2Stream] = [:]
    var peerSettingsReceived = false
    /// How many streams the peer lets us have open.
    var peerMaximumStreams = Int(UInt32.max)
    var peerMaximumFrame = 16384
    var peerInitialWindow = 65535
    var sendWindow = 65535
    /// Payload handed out that the application has not taken.
    var unread = 0
    /// The highest stream number the peer has used (server).
    var highestPeerStream: UInt32 = 0
    /// The next stream number of ours (client).
    var nextStream: UInt32 = 1
    var goAwaySent: UInt32?
    var goAwayReceived: UInt32?

    /// Made when the first header block comes.
    var decoder: HPACKDecoder?
    var budget = HTTP2Budget()
    var input: Input
    var gathered: [UInt8] = []
    var headerBlock: HeaderBlock?
    var receiveWindow = 65535
    var settingsUnacknowledged = 0
    /// Streams we reset a short while ago, whose frames may still be on the way.
    var recentlyReset: [UInt32] = []

    init(role: Role, settings: HBONESettings) {
        self.role = role
        self.settings = settings
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

    func misplaced(_ what: String) -> HTTP2Violation { HTTP2Violation(HTTP2Code.protocolError, what) }

    /// Whether a stream of this number has not been used yet.
    func isIdle(_ stream: UInt32) -> Bool {
        stream & 1 == 0 || (role == .server ? stream > highestPeerStream : stream >= nextStream)
    }

    // MARK: Endings

    /// Resets a stream whose peer broke a rule.
    mutating func failStream(_ stream: UInt32, _ violation: HTTP2Violation) throws(HTTP2Violation) -> Event {
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

}

extension [UInt8] {
    mutating func append(_ bytes: RawSpan) {
        // An array takes bytes at once only from a buffer.
        unsafe bytes.withUnsafeBytes { unsafe append(contentsOf: $0) }
    }
}
