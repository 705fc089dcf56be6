import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// An HTTP server whose every answer a test writes.
final class ScriptedServer: Sendable {
    let port: Int
    private let listener: any Channel
    private let connections = Mutex<[ObjectIdentifier: any Channel]>([:])

    /// A request, and the way to answer it.
    struct Call: Sendable {
        let method: String
        let path: String
        let query: [String: String]
        let headers: HTTPHeaders
        let body: [UInt8]
        let channel: any Channel

        func answer(_ status: Int = 200, _ json: String, headers: [String: String] = [:]) {
            var head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: status))
            head.headers.add(name: "Content-Length", value: String(json.utf8.count))
            for (name, value) in headers { head.headers.add(name: name, value: value) }
            channel.write(HTTPServerResponsePart.head(head), promise: nil)
            channel.write(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(string: json))), promise: nil)
            channel.writeAndFlush(HTTPServerResponsePart.end(nil), promise: nil)
        }

        /// Begins an answer without a known end.
        func begin() {
            var head = HTTPResponseHead(version: .http1_1, status: .ok)
            head.headers.add(name: "Transfer-Encoding", value: "chunked")
            channel.writeAndFlush(HTTPServerResponsePart.head(head), promise: nil)
        }

        func send(_ text: String) {
            channel.writeAndFlush(
                HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(string: text))), promise: nil)
        }

        func end() { channel.writeAndFlush(HTTPServerResponsePart.end(nil), promise: nil) }
        func cut() { channel.close(promise: nil) }
    }

    init(
        port: Int = 0, tls: (@Sendable () throws -> NIOSSLContext)? = nil, _ handle: @escaping @Sendable (Call) -> Void
    ) async throws {
        let holder = Holder()
        listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    holder.opened(channel)
                    if let tls {
                        try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: try tls()))
                    }
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(CallHandler(handle))
                }
            }
            .bind(host: "127.0.0.1", port: port).get()
        self.port = listener.localAddress?.port ?? 0
        holder.server = self
    }

    /// Ends the server and cuts every connection.
    func stop() async {
        // It may have been stopped before.
        try? await listener.close()
        let open = connections.withLock { connections in
            defer { connections = [:] }
            return Array(connections.values)
        }
        for channel in open { try? await channel.close() }
    }

    fileprivate func opened(_ channel: any Channel) {
        connections.withLock { $0[ObjectIdentifier(channel)] = channel }
        channel.closeFuture.whenComplete { [weak self] _ in
            self?.connections.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(channel)) }
        }
    }

    deinit { listener.close(promise: nil) }

    /// Set once, before a test sends anything.
    private final class Holder: @unchecked Sendable {
        weak var server: ScriptedServer?
        func opened(_ channel: any Channel) { server?.opened(channel) }
    }
}

private final class CallHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart

    private let handle: @Sendable (ScriptedServer.Call) -> Void
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []

    init(_ handle: @escaping @Sendable (ScriptedServer.Call) -> Void) { self.handle = handle }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            body = []
        case .body(let buffer): body += buffer.readableBytesView
        case .end:
            guard let head else { return }
            let parts = head.uri.split(separator: "?", maxSplits: 1)
            var query: [String: String] = [:]
            for item in parts.dropFirst().first?.split(separator: "&") ?? [] {
                let pair = item.split(separator: "=", maxSplits: 1)
                query[String(pair[0])] = pair.count > 1 ? String(pair[1]).removingPercentEncoding ?? "" : ""
            }
            handle(
                ScriptedServer.Call(
                    method: head.method.rawValue, path: String(parts.first ?? ""), query: query, headers: head.headers,
                    body: body, channel: context.channel))
        }
    }
}
