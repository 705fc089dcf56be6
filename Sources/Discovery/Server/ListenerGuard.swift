public import GRPCNIOTransportHTTP2
public import Logging
import NIOCore
import Synchronization

/// Looks after the listening socket of a gRPC server, which the transport itself does not in two ways:
///
/// - an error of accept(2), as when descriptors run out, would end the server; here it is logged, and the transport's
///   own pause before the next attempt does the rest;
/// - a server that is cancelled leaves the socket open a little longer than it takes connections from it, and one that
///   comes in between makes the process crash; here the socket is closed first.
public final class ListenerGuard: Sendable {
    private let channel = Mutex<(any Channel)?>(nil)
    private let logger: Logger

    public init(logger: Logger) { self.logger = logger }

    /// To be called on the configuration that the transport is made with.
    public func install(in config: inout HTTP2ServerTransport.Posix.Config) {
        config.channelDebuggingCallbacks.onBindTCPListener = { channel in
            self.channel.withLock { $0 = channel }
            return channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(SwallowAcceptErrors(self.logger))
            }
        }
    }

    /// Runs `serve`; when the task is cancelled, closes the socket before the cancellation gets there.
    public func run(_ serve: @escaping @Sendable () async throws -> Void) async throws {
        let task = Task { try await serve() }
        try await withTaskCancellationHandler {
            try await task.value
        } onCancel: {
            guard let channel = self.channel.withLock({ $0 }) else {
                task.cancel()
                return
            }
            channel.close(mode: .all).whenComplete { _ in task.cancel() }
        }
    }

    private final class SwallowAcceptErrors: ChannelInboundHandler {
        typealias InboundIn = Any

        private let logger: Logger
        init(_ logger: Logger) { self.logger = logger }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            logger.warning("a connection was not accepted", metadata: ["reason": "\(error)"])
        }
    }
}
