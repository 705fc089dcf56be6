import NIOCore
import NIOHTTP1
import NIOHTTPCompression

/// One connection: reads one request, answers it, closes.
///
/// The client may close its side after the request; it still gets the answer.
final class HTTPConnection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case readingHead
        case readingBody(HTTPRequestHead, ByteBuffer)
        case answering
    }

    private let router: HTTPRouter
    private let limits: HTTPEndpoint.Limits
    private let compressing: Bool
    /// Once the request is complete.
    private var requestHead: HTTPRequestHead?
    private var state = State.readingHead
    private var timeouts: [Scheduled<Void>] = []

    /// Whether the one request is complete, or refused: what comes after it is not even decoded.
    var isAnswering: Bool {
        if case .answering = state { return true }
        return false
    }

    /// Whether bytes still count against the limit of the header.
    var isReadingHead: Bool {
        if case .readingHead = state { return true }
        return false
    }

    init(router: HTTPRouter, limits: HTTPEndpoint.Limits, compressing: Bool = false) {
        self.router = router
        self.limits = limits
        self.compressing = compressing
    }

    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timeouts = [
            context.eventLoop.scheduleTask(in: limits.headerTimeout) {
                let (connection, context) = bound.value
                guard connection.isReadingHead else { return }
                connection.answer(.text("request header timed out\n", status: 408), context, isHead: false)
            },
            context.eventLoop.scheduleTask(in: limits.connectionTimeout) { channel.close(promise: nil) },
        ]
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        for timeout in timeouts { timeout.cancel() }
        timeouts = []
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch (unwrapInboundIn(data), state) {
        case (.head(let head), .readingHead): begin(head, context)
        case (.body(let part), .readingBody(let head, var body)):
            guard body.readableBytes + part.readableBytes <= limits.bodyBytes else {
                answer(tooLarge, context, isHead: false)
                return
            }
            body.writeImmutableBuffer(part)
            state = .readingBody(head, body)
        case (.end, .readingBody(let head, let body)): dispatch(head, body, context)
        default:
            // What follows the one request is not read.
            break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard error is HTTPParserError else {
            context.close(promise: nil)
            return
        }
        if !isAnswering { answer(.text("bad request\n", status: 400), context, isHead: false) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event {
            // No whole request will come any more, unless it is there already.
            if !isAnswering { context.close(promise: nil) }
        } else if event is HeaderTooLarge {
            refuseHeader(context)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    private func refuseHeader(_ context: ChannelHandlerContext) {
        answer(.text("request header too large\n", status: 431), context, isHead: false)
    }

    private var tooLarge: HTTPReply { .text("request body too large\n", status: 413) }

    private func begin(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let size = head.headers.reduce(head.uri.utf8.count) { $0 + $1.name.utf8.count + $1.value.utf8.count + 4 }
        if size > limits.headerBytes {
            refuseHeader(context)
        } else if let length = head.headers.first(name: "content-length"), (Int(length) ?? .max) > limits.bodyBytes {
            answer(tooLarge, context, isHead: head.method == .HEAD)
        } else {
            state = .readingBody(head, ByteBuffer())
            if head.headers[canonicalForm: "expect"].contains("100-continue") {
                context.writeAndFlush(
                    wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .continue))), promise: nil)
            }
        }
    }

    private func dispatch(_ head: HTTPRequestHead, _ body: ByteBuffer, _ context: ChannelHandlerContext) {
        let isHead = head.method == .HEAD
        guard let (path, query) = HTTPRequest.split(target: head.uri) else {
            answer(.text("bad request\n", status: 400), context, isHead: isHead)
            return
        }
        state = .answering
        requestHead = head
        let request = HTTPRequest(
            method: head.method.rawValue, path: path, query: query,
            headers: head.headers.map { (name: $0.name, value: $0.value) }, body: Array(body.readableBytesView))
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let router = router
        let loop = context.eventLoop
        Task {
            let reply = await router.answer(request)
            loop.execute {
                let (connection, context) = bound.value
                connection.answer(reply, context, isHead: isHead)
            }
        }
    }

    /// Puts the compressor in the way of the answer. Not before: it wants one request for each answer, and would end the
    /// process over an answer to none, as a header that is late or no header at all gets, or over a "continue".
    private func compress(_ request: HTTPRequestHead, _ context: ChannelHandlerContext) {
        do {
            let sync = context.pipeline.syncOperations
            let decoder = try sync.context(handlerType: ByteToMessageHandler<HTTPRequestDecoder>.self)
            try sync.addHandler(HTTPResponseCompressor(), position: .before(self))
            // From this it learns what the client takes; here nothing more is read.
            decoder.fireChannelRead(NIOAny(HTTPServerRequestPart.head(request)))
        } catch {
            // The connection is being taken down; whoever is still there gets the answer as it is.
            return
        }
    }

    private func answer(_ reply: HTTPReply, _ context: ChannelHandlerContext, isHead: Bool) {
        state = .answering
        var headers = HTTPHeaders(reply.headers.map { ($0.name, $0.value) })
        headers.replaceOrAdd(name: "content-type", value: reply.contentType)
        headers.replaceOrAdd(name: "content-length", value: String(reply.body.count))
        headers.replaceOrAdd(name: "connection", value: "close")
        let head = HTTPResponseHead(
            version: .http1_1, status: HTTPResponseStatus(statusCode: reply.status), headers: headers)
        if compressing, !isHead, !reply.body.isEmpty, let requestHead { compress(requestHead, context) }
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if !isHead, !reply.body.isEmpty {
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: reply.body)))), promise: nil)
        }
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
            // Half-close first: closing while the client still sends would reset the connection under our answer.
            channel.close(mode: .output).whenComplete { _ in
                channel.eventLoop.scheduleTask(in: .milliseconds(500)) { channel.close(promise: nil) }
            }
        }
    }
}

/// Counts bytes before the decoder sees them: it would gather a header of any length.
final class HTTPHeaderGuard: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let connection: HTTPConnection
    private let limit: Int
    private var bytes = 0

    init(_ connection: HTTPConnection, limit: Int) {
        self.connection = connection
        self.limit = limit
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !connection.isAnswering else { return }
        bytes += unwrapInboundIn(data).readableBytes
        context.fireChannelRead(data)
        guard connection.isReadingHead, bytes > limit else { return }
        context.fireUserInboundEventTriggered(HeaderTooLarge())
    }
}

/// From the guard to the connection, past the decoder.
struct HeaderTooLarge: Sendable {}
