import Handover
import LinuxNetwork
import Logging
import ObjectSource

/// Asks the controller whether the mesh's proxies have taken note that a pod is no longer captured.
public struct PeerNotice: Sendable {
    let socketPath: String
    let nodeName: String
    let log: Logger
    private let pool: BlockingPool

    /// - Parameter socketPath: The controller's token.sock.
    public init(socketPath: String, nodeName: String, log: Logger = Logger(label: "peers")) throws {
        self.socketPath = socketPath
        self.nodeName = nodeName
        self.log = log
        pool = try BlockingPool(threads: 2)
    }

    /// Returns when all have, or when it cannot be known: the caller bounds the wait and goes on in any case.
    public func wait(for pod: PodReference) async {
        let name = "\(pod.name.namespace)/\(pod.name.name)"
        do {
            let missing = try await pool.run { try self.ask(name) }
            guard missing.isEmpty else {
                return log.warning(
                    "peers may still open tunnels to a pod that left",
                    metadata: ["pod": "\(name)", "reason": "\(missing)"])
            }
        } catch {
            log.warning(
                "cannot ask who knows that a pod left", metadata: ["pod": "\(name)", "error": "\(AgentError(error))"])
        }
    }

    private func ask(_ pod: String) throws -> String {
        let socket = try SeqpacketSocket.connect(path: socketPath, milliseconds: 1000)
        try socket.send(TokenRequest(node: nodeName, released: pod).encoded())
        guard try socket.waitReadable(milliseconds: 6000),
            let packet = try socket.receive(limit: TokenReply.maximumLength, descriptorLimit: 0), !packet.bytes.isEmpty
        else { throw AgentError(.tryAgain, "the controller did not answer at \(socketPath)") }
        return try TokenReply(decoding: packet.bytes).error
    }
}
