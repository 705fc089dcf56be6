import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A small HTTP/1.1 server for administration, metrics and probes: one request a connection, everything bounded.
public final class HTTPEndpoint: Sendable {
    public struct Limits: Hashable, Sendable {
        /// From the connection to the end of the header.
        public var headerTimeout: TimeAmount = .seconds(2)
        /// From the connection to the end of the answer, whoever is slow.
        public var connectionTimeout: TimeAmount = .seconds(60)
        /// Bytes of request line and headers together.
        public var headerBytes = 8192
        public var bodyBytes = 64 << 10
        /// At a time; further ones are closed at once.
        public var connections = 128

        public init() {}

        /// Where an answer may take as long as the longest CPU profile.
        public static var longAnswers: Limits {
            var limits = Limits()
            limits.connectionTimeout = .seconds(Int64(CPUProfiler.seconds.upperBound) + 30)
            return limits
        }
    }

    private let channels: [any Channel]
    private let connections: HTTPConnections

    private init(channels: [any Channel], connections: HTTPConnections) {
        self.channels = channels
        self.connections = connections
    }

    /// Listens on all of the addresses or on none.
    /// - Parameters:
    ///   - addresses: host and port each; port 0 lets the system choose, see ``addresses``.
    ///   - compressing: whether answers are compressed for clients that take gzip or deflate.
    ///   - group: event loops that are the caller's to shut down.
    /// - Throws: when an address cannot be bound.
    public static func start(
        on addresses: [(host: String, port: Int)], routes: [HTTPRoute], limits: Limits = Limits(),
        compressing: Bool = false, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
    ) async throws -> HTTPEndpoint {
        let router = HTTPRouter(routes)
        let connections = HTTPConnections(limit: limits.connections)
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 128)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard connections.admit(channel) else { throw ChannelError.eof }
                    let sync = channel.pipeline.syncOperations
                    let connection = HTTPConnection(router: router, limits: limits, compressing: compressing)
                    try sync.addHandler(HTTPResponseEncoder())
                    try sync.addHandler(HTTPHeaderGuard(connection, limit: limits.headerBytes))
                    try sync.addHandler(ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .dropBytes)))
                    try sync.addHandler(connection)
                }
            }
        var channels: [any Channel] = []
        do {
            for (host, port) in addresses {
                channels.append(try await bootstrap.bind(host: host, port: port).get())
            }
        } catch {
            for channel in channels {
                // The failure to bind is what the caller must hear of.
                try? await channel.close()
            }
            throw error
        }
        return HTTPEndpoint(channels: channels, connections: connections)
    }

    /// What is listened on, in the order asked for.
    public var addresses: [SocketAddress] { channels.compactMap(\.localAddress) }

    /// Stops listening and closes every connection.
    public func close() async {
        for channel in channels {
            // Closed already is closed too.
            try? await channel.close()
        }
        await connections.closeAll()
    }
}

/// The open connections of one endpoint.
final class HTTPConnections: Sendable {
    private let limit: Int
    private let open = Mutex<[ObjectIdentifier: any Channel]>([:])

    init(limit: Int) { self.limit = limit }

    func admit(_ channel: any Channel) -> Bool {
        let id = ObjectIdentifier(channel)
        let admitted = open.withLock { open in
            guard open.count < limit else { return false }
            open[id] = channel
            return true
        }
        if admitted {
            channel.closeFuture.whenComplete { [self] _ in open.withLock { $0[id] = nil } }
        }
        return admitted
    }

    func closeAll() async {
        for channel in open.withLock({ Array($0.values) }) {
            // It may have closed by itself in the meantime.
            try? await channel.close()
        }
    }
}
