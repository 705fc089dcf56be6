import NIOCore
import NIOHPACK

/// Header blocks: requests and replies of the peer (RFC 9113 sections 6.2, 6.10 and 8).
extension HTTP2Connection {
    mutating func receiveHeaders(
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

    mutating func receiveContinuation(
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

    mutating func complete(_ block: HeaderBlock) throws(HTTP2Violation) -> Event? {
        let fields = try decode(block)
        return role == .server ? try receiveRequest(block, fields) : try receiveReply(block, fields)
    }

    /// Decodes a block, whatever becomes of its stream: the compression state is the connection's.
    private mutating func decode(_ block: HeaderBlock) throws(HTTP2Violation) -> [HTTP2PlainFields.Field] {
        if let fields = HTTP2PlainFields.read(block.bytes, limit: settings.maximumHeaderList) { return fields }
        var decoder =
            decoder
            ?? HPACKDecoder(
                allocator: ByteBufferAllocator(), maxDynamicTableSize: 4096,
                maxHeaderListSize: settings.maximumHeaderList)
        // Two owners would make it copy its table.
        self.decoder = nil
        defer { self.decoder = decoder }
        do {
            var buffer = ByteBuffer(bytes: block.bytes)
            return try decoder.decodeHeaders(from: &buffer).map { ($0.name, $0.value) }
        } catch is NIOHPACKErrors.MaxHeaderListSizeViolation {
            throw HTTP2Violation(
                HTTP2Code.enhanceYourCalm, "a header list beyond \(settings.maximumHeaderList) bytes")
        } catch {
            throw HTTP2Violation(HTTP2Code.compressionError, "a header block that cannot be decoded")
        }
    }

    mutating func receiveRequest(
        _ block: HeaderBlock, _ fields: [HTTP2PlainFields.Field]
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

    mutating func refuse(
        _ stream: UInt32, _ code: UInt32, _ kind: HTTP2Budget.Kind
    ) throws(HTTP2Violation) -> Event? {
        try budget.spend(kind)
        appendReset(stream, code)
        return nil
    }

    mutating func receiveReply(
        _ block: HeaderBlock, _ fields: [HTTP2PlainFields.Field]
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
}
