import Glibc
import Handover
import LinuxNetwork
import Logging

/// Gets this node's token and the mesh's roots from the controller and puts them where ztunnel's user alone can read
/// them; again at half of the token's life, for as long as it runs.
public struct TokenRenewer: Sendable {
    public static let tokenFile = "token"
    public static let rootsFile = "root-cert.pem"
    static let askTimeout = 5_000
    /// How long an attempt waits for the controller's socket to appear, in milliseconds.
    static let startOfController = 500

    let socketPath: String
    let nodeName: String
    /// ztunnel's own directory.
    let folder: String
    let owner: uid_t
    let log: Logger
    private let pool: BlockingPool

    /// - Parameters:
    ///   - socketPath: The controller's token.sock.
    ///   - folder: Made if it is missing, for `owner` alone.
    ///   - owner: The user ztunnel runs as.
    public init(
        socketPath: String, nodeName: String, folder: String, owner: uid_t, log: Logger = Logger(label: "token")
    ) throws {
        self.socketPath = socketPath
        self.nodeName = nodeName
        self.folder = folder
        self.owner = owner
        self.log = log
        pool = try BlockingPool(threads: 1)
    }

    /// Renews until the task is cancelled. `firstToken` is called once, when the first token is in place.
    public func run(firstToken: @Sendable () -> Void = {}) async {
        var backoff = Self.freshBackoff
        var isFirst = true
        while !Task.isCancelled {
            var pause: Duration
            do {
                let life = try await renew()
                log.info("the node's token is in place", metadata: ["life": "\(life)", "folder": "\(folder)"])
                if isFirst { firstToken() }
                isFirst = false
                backoff = Self.freshBackoff
                pause = Swift.max(life / 2, .seconds(1))
            } catch {
                pause = backoff.next()
                log.warning(
                    "no token yet; trying again", metadata: ["error": "\(AgentError(error))", "in": "\(pause)"])
            }
            do { try await Task.sleep(for: pause) } catch { break }
        }
        pool.stop()
    }

    private static var freshBackoff: Backoff { Backoff(shortest: .milliseconds(100), longest: .seconds(30)) }

    /// Asks once and writes what comes.
    /// - Returns: How long the token lives from now on.
    func renew() async throws -> Duration {
        let reply = try await pool.run { try self.ask() }
        guard reply.error.isEmpty else {
            throw AgentError(.tryAgain, "the controller gives no token", cause: reply.error)
        }
        guard !reply.token.isEmpty, !reply.rootPEM.isEmpty else {
            throw AgentError(.tryAgain, "the controller's answer lacks the token or the roots")
        }
        try await pool.run { try self.place(reply) }
        return .seconds(Swift.max(0, reply.expiresAt - Int64(time(nil))))
    }

    /// Connects; a controller that is being started gets a moment, so that its token is here as soon as it can be.
    private func connect() throws(SystemError) -> SeqpacketSocket {
        let path = socketPath
        var found: SeqpacketSocket?
        let isThere = try FileWait.until(
            in: [AtomicFile.split(path).folder], milliseconds: Self.startOfController
        ) { () throws(SystemError) in
            do throws(SystemError) {
                found = try SeqpacketSocket.connect(path: path)
                return true
            } catch {
                if error.code == ENOENT || error.code == ECONNREFUSED { return false }
                throw error
            }
        }
        if isThere, let socket = found.take() { return socket }
        throw SystemError("connect to \(path)", code: ENOENT)
    }

    private func ask() throws -> TokenReply {
        let socket = try connect()
        // Roots decide whom ztunnel believes: only from root, or from ourselves.
        let peer = try socket.peerCredentials()
        guard peer.uid == 0 || peer.uid == geteuid() else {
            throw AgentError(.tryAgain, "the listener at \(socketPath) runs as user \(peer.uid), not root")
        }
        try socket.send(TokenRequest(node: nodeName).encoded())
        guard try socket.waitReadable(milliseconds: Self.askTimeout),
            let packet = try socket.receive(limit: TokenReply.maximumLength, descriptorLimit: 0)
        else { throw AgentError(.tryAgain, "the controller did not answer at \(socketPath)") }
        guard !packet.truncated, !packet.bytes.isEmpty else {
            throw AgentError(.tryAgain, "the controller closed \(socketPath) without an answer")
        }
        return try TokenReply(decoding: packet.bytes)
    }

    /// Makes ztunnel's directory, if it is missing: ztunnel may be started before there is a token, and watches it.
    public static func prepare(_ folder: String, owner: uid_t) throws {
        try AtomicFile.makeFolder(AtomicFile.split(folder).folder, mode: 0o711)
        if mkdir(folder, 0o700) == 0 {
            try check("change the owner of \(folder)") { lchown(folder, owner, owner) }
        } else if errno != EEXIST {
            throw SystemError("make folder \(folder)")
        }
    }

    /// The roots first: whoever sees the token may use both.
    private func place(_ reply: TokenReply) throws {
        try Self.prepare(folder, owner: owner)
        let directory = try FileDescriptor.open(folder, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        for (name, text) in [(Self.rootsFile, reply.rootPEM), (Self.tokenFile, reply.token)] {
            try AtomicFile.write(Array(text.utf8), as: name, in: directory, mode: 0o400, owner: owner)
        }
    }
}
