import Foundation
import Kubernetes
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// A request that came over the network, and the way to answer it. May be used from any thread.
struct HTTPCall: Sendable {
    var request: APIRequest
    /// As the header has it, without `Bearer `.
    var token: String?
    /// Whom the client's certificate is of.
    var certificateUser: APIUser?
    let channel: any Channel

    func answer(_ code: Int, _ bytes: [UInt8], type: String) {
        var head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: code))
        head.headers.add(name: "Content-Type", value: type)
        head.headers.add(name: "Content-Length", value: String(bytes.count))
        head.headers.add(name: "Cache-Control", value: "no-cache, private")
        later { [head] channel in
            channel.write(HTTPServerResponsePart.head(head), promise: nil)
            channel.write(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: bytes))), promise: nil)
            channel.writeAndFlush(HTTPServerResponsePart.end(nil), promise: nil)
        }
    }

    /// Begins an answer without a known end.
    func begin() {
        var head = HTTPResponseHead(version: .http1_1, status: .ok)
        head.headers.add(name: "Content-Type", value: "application/json")
        head.headers.add(name: "Transfer-Encoding", value: "chunked")
        later { [head] in $0.writeAndFlush(HTTPServerResponsePart.head(head), promise: nil) }
    }

    func send(_ bytes: ByteBuffer) {
        later { $0.writeAndFlush(HTTPServerResponsePart.body(.byteBuffer(bytes)), promise: nil) }
    }

    func end() { later { $0.writeAndFlush(HTTPServerResponsePart.end(nil), promise: nil) } }
    func cut() { later { $0.close(promise: nil) } }

    /// Never at once: who writes holds the server's lock, and a write may end a connection or bring its next request.
    private func later(_ body: @escaping @Sendable (any Channel) -> Void) {
        let channel = channel
        channel.eventLoop.execute { body(channel) }
    }
}

/// Takes requests from a connection, one after the other.
final class HTTPCallHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    /// Bytes of a body, as a real server has it.
    static let maximumBody = 3 << 20

    private let handle: @Sendable (HTTPCall) -> Void
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    private var isTooLarge = false

    init(_ handle: @escaping @Sendable (HTTPCall) -> Void) { self.handle = handle }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            (body, isTooLarge) = ([], false)
        case .body(let buffer):
            isTooLarge = isTooLarge || body.count + buffer.readableBytes > Self.maximumBody
            if !isTooLarge { body += buffer.readableBytesView }
        case .end:
            guard let head else { return }
            self.head = nil
            var call = call(head, context)
            if isTooLarge {
                let status = APIFailure(
                    413, "RequestEntityTooLarge", "Request entity too large: limit is \(Self.maximumBody)")
                return call.answer(413, status.status.bytes, type: "application/json")
            }
            call.request.body = body
            body = []
            handle(call)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A client that is gone, or speaks no HTTP: there is nobody to tell.
        context.close(promise: nil)
    }

    private func call(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) -> HTTPCall {
        let parts = head.uri.split(separator: "?", maxSplits: 1)
        var query: [String: String] = [:]
        for item in parts.dropFirst().first?.split(separator: "&") ?? [] {
            let pair = item.split(separator: "=", maxSplits: 1)
            let value = pair.count > 1 ? String(pair[1]).replacing("+", with: " ") : ""
            // Of a name that is there twice the first counts.
            let name = String(pair[0]).removingPercentEncoding ?? ""
            if query[name] == nil { query[name] = value.removingPercentEncoding ?? "" }
        }
        var request = APIRequest(
            method: head.method.rawValue, path: String(parts.first ?? "").removingPercentEncoding ?? "", query: query)
        request.accept = head.headers["Accept"].joined(separator: ",")
        request.contentType = head.headers["Content-Type"].first ?? ""
        request.agent = String(head.headers["User-Agent"].first?.split(separator: "/").first ?? "unknown")
        let authorization = head.headers["Authorization"].first ?? ""
        var user: APIUser?
        // Without TLS there is no such handler.
        if let tls = try? context.pipeline.syncOperations.handler(type: NIOSSLServerHandler.self),
            let certificate = tls.peerCertificate
        {
            user = ServerCredentials.user(of: certificate)
        }
        return HTTPCall(
            request: request,
            token: authorization.lowercased().hasPrefix("bearer ") ? String(authorization.dropFirst(7)) : nil,
            certificateUser: user, channel: context.channel)
    }
}
