import Glibc
import Handover
import LinuxNetwork
import Logging

/// A request of the CNI plugin with the namespace that came with it.
public struct CNICall: Sendable {
    public let request: CNIRequest
    /// `nil` where the plugin sent no descriptor.
    public let namespace: Result<SharedNamespace, SystemError>?

    public init(request: CNIRequest, namespace: Result<SharedNamespace, SystemError>?) {
        self.request = request
        self.namespace = namespace
    }
}

/// The agent's end of cni.sock: one request and one reply a connection, root's processes only.
final class CNIServer: Sendable {
    typealias Handler = @Sendable (CNICall) async -> CNIReply

    /// Connections beyond these are told to try again later.
    static let mostCalls = 256
    /// Connections that are being told so; those beyond wait in the listener's queue.
    static let mostRefusals = 64
    /// From the connection to the reply.
    static let timeout = Duration.seconds(10)
    /// From the connection of a caller that is turned away to its request.
    static let refusalTimeout = Duration.seconds(1)

    static var full: AgentError { AgentError(.tryAgain, "the node agent has \(mostCalls) requests in hand already") }

    static func outOfDescriptors(_ error: SystemError) -> AgentError {
        AgentError(
            .tryAgain, "the node agent has no file descriptor left", cause: error.description,
            hint: AgentError.descriptorHint)
    }

    private let thread: EventLoopThread<CNIAcceptor>
    private let path: String

    /// Listens at `path`, in place of what an agent before left there.
    init(path: String, log: Logger, handler: @escaping Handler) throws {
        self.path = path
        var info = stat()
        if lstat(path, &info) == 0 {
            guard info.st_mode & S_IFMT == S_IFSOCK else {
                throw AgentError(.file, "\(path) exists and is not a socket", hint: "move it out of the way")
            }
            try check("remove the stale \(path)") { unlink(path) }
        }
        thread = try EventLoopThread(name: "agent-cni") { loop in
            let listener = try SeqpacketSocket.listen(path: path, mode: 0o600, backlog: 256)
            return try CNIAcceptor(loop, listener, log: log, handler: handler)
        }
    }

    /// No more calls; those that are open are cut, and the runtime tries again.
    func close() {
        thread.stop()
        unlink(path)
    }
}
