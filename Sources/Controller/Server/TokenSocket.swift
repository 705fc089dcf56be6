import Dispatch
import Foundation
import Glibc
import Handover
import Identity
import LinuxNetwork
import Logging

/// The socket in the state directory where a node's agent fetches its token. Only root may ask.
final class TokenSocket: Sendable {
    static let name = "token.sock"
    /// A request comes with the connection; who sends none is not waited for long.
    private static let requestTimeout = 1000

    /// What is answered with, apart from the socket.
    struct Answers: Sendable {
        var token: @Sendable (_ node: String) async throws(IdentityError) -> (token: String, expiresAt: Date)
        /// Returns when the proxies have taken note of a pod's release: an empty text, or who has not.
        var released: @Sendable (_ pod: String) async -> String
        var rootPEM: String
    }

    let path: String
    private let listener: Listener
    // Cancelled from any thread, which a dispatch source allows though it does not say so.
    private nonisolated(unsafe) let source: any DispatchSourceRead
    private let logger: Logger

    private final class Listener: Sendable {
        let socket: SeqpacketSocket
        init(_ socket: consuming SeqpacketSocket) { self.socket = socket }
    }

    private final class Connection: Sendable {
        let socket: SeqpacketSocket
        init(_ socket: consuming SeqpacketSocket) { self.socket = socket }
    }

    /// - Throws: ``ControllerError`` `tokenSocket`, when another controller answers there, too.
    init(directory: String, answers: Answers, logger: Logger) throws(ControllerError) {
        path = directory + "/" + Self.name
        self.logger = logger
        do {
            if (try? SeqpacketSocket.connect(path: path)) != nil {
                throw ControllerError(
                    .tokenSocket, "another controller answers at \(path)", hint: "end it, or use another --state")
            }
            // Left over from a controller that is no more.
            unlink(path)
            listener = Listener(try SeqpacketSocket.listen(path: path, mode: 0o600))
        } catch let error as ControllerError {
            throw error
        } catch {
            throw ControllerError(.tokenSocket, "cannot listen at \(path)", cause: "\(error)")
        }
        let queue = DispatchQueue(label: "apus.tokens")
        source = DispatchSource.makeReadSource(fileDescriptor: listener.socket.raw, queue: queue)
        let listener = listener
        source.setEventHandler { Self.accept(listener, answers, logger) }
        // The listener lives until the queue has let go of it.
        source.setCancelHandler { withExtendedLifetime(listener) {} }
        source.resume()
    }

    func close() {
        source.cancel()
        unlink(path)
    }

    private static func accept(_ listener: Listener, _ answers: Answers, _ logger: Logger) {
        do {
            while let socket = try listener.socket.accept() {
                let connection = Connection(socket)
                let peer = try connection.socket.peerCredentials()
                guard peer.uid == 0 || peer.uid == geteuid() else {
                    logger.warning("token request refused", metadata: ["uid": "\(peer.uid)", "pid": "\(peer.pid)"])
                    continue
                }
                guard let request = try read(connection) else { continue }
                Task { await answer(request, connection, answers, logger) }
            }
        } catch {
            logger.warning("token request failed", metadata: ["reason": "\(error)"])
        }
    }

    private static func read(_ connection: Connection) throws -> TokenRequest? {
        guard try connection.socket.waitReadable(milliseconds: requestTimeout),
            let packet = try connection.socket.receive(limit: TokenRequest.maximumLength), !packet.bytes.isEmpty,
            !packet.truncated
        else { return nil }
        return try TokenRequest(decoding: packet.bytes)
    }

    private static func answer(
        _ request: TokenRequest, _ connection: Connection, _ answers: Answers, _ logger: Logger
    ) async {
        var reply = TokenReply()
        if request.released.isEmpty {
            do {
                let (token, expiresAt) = try await answers.token(request.node)
                reply = TokenReply(
                    token: token, rootPEM: answers.rootPEM, expiresAt: Int64(expiresAt.timeIntervalSince1970))
                logger.info("token issued", metadata: ["node": "\(request.node)"])
            } catch {
                reply.error = HandoverLimits.shortened("\(error)")
                logger.warning("no token", metadata: ["node": "\(request.node)", "reason": "\(error)"])
            }
        } else {
            // An answer without any field would be an empty packet, which means the end.
            reply.rootPEM = answers.rootPEM
            reply.error = HandoverLimits.shortened(await answers.released(request.released))
        }
        do {
            try connection.socket.send(reply.encoded())
        } catch {
            logger.warning("token reply not sent", metadata: ["node": "\(request.node)", "reason": "\(error)"])
        }
    }
}
