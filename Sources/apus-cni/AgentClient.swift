import CNI
import Glibc
import Handover
import LinuxNetwork

/// One question to the node agent: connect, send, receive, within one timeout.
struct AgentClient {
    /// The kernel's default buffer takes any packet up to this.
    private static let smallPacket = 64 << 10

    private let path: String
    private let timeoutMilliseconds: Int
    private let codeWhenAway: CNIError.Code

    /// - Parameter code: of the error when the agent cannot be reached or does not answer as it should.
    init(_ configuration: NetworkConfiguration, whenAway code: CNIError.Code) {
        path = configuration.agentSocket
        timeoutMilliseconds = configuration.agentTimeoutMilliseconds
        codeWhenAway = code
    }

    /// Asks, and returns when the agent says that it is done.
    /// - Throws: The agent's own error, or one with the code for an agent that is away.
    func ask(_ request: CNIRequest, descriptors: [CInt] = []) throws(CNIError) {
        let packet = request.encoded()
        try checkLimits(packet)
        let reply = try decode(try exchange(packet, descriptors))
        guard reply.code != 0 else { return }
        throw CNIError(
            CNIError.Code(rawValue: reply.code),
            reply.message.isEmpty ? "the node agent refused and gave no reason" : reply.message,
            details: reply.details)
    }

    /// The agent takes no more than the protocol allows; said here it is the caller's error, and named.
    private func checkLimits(_ packet: [UInt8]) throws(CNIError) {
        do throws(HandoverError) { _ = try CNIRequest(decoding: packet) } catch {
            throw CNIError(.invalidConfiguration, "the request is more than the node agent takes: \(error.message)")
        }
    }

    // MARK: Packets

    private func exchange(_ packet: [UInt8], _ descriptors: [CInt]) throws(CNIError) -> Packet {
        let failure: CNIError
        do throws(SystemError) {
            if let answer = try send(packet, descriptors) { return answer }
            failure = timedOut
        } catch {
            // The queue of the listener stayed full.
            failure = error.code == EAGAIN ? timedOut : unreachable(error)
        }
        throw failure
    }

    /// - Returns: The answer; `nil` when none came in time.
    private func send(_ packet: [UInt8], _ descriptors: [CInt]) throws(SystemError) -> Packet? {
        let deadline = MonotonicClock.now + UInt64(timeoutMilliseconds) * 1_000_000
        func left() -> Int {
            let now = MonotonicClock.now
            return now < deadline ? Int((deadline - now + 999_999) / 1_000_000) : 0
        }
        let socket = try SeqpacketSocket.connect(path: path, milliseconds: timeoutMilliseconds)
        // Whoever can put a socket at this path must not be handed a pod's namespace for that.
        let peer = try socket.peerCredentials()
        guard peer.uid == 0 || peer.uid == geteuid() else {
            throw SystemError("the listener runs as user \(peer.uid)", code: EPERM)
        }
        if packet.count > Self.smallPacket { try socket.raiseSendBuffer(to: packet.count) }
        try socket.send(packet, descriptors: descriptors)
        while try socket.waitReadable(milliseconds: left()) {
            if let answer = try socket.receive(limit: CNIReply.maximumLength, descriptorLimit: 0) { return answer }
        }
        return nil
    }

    private func decode(_ answer: borrowing Packet) throws(CNIError) -> CNIReply {
        if answer.truncated { throw notUnderstood("it is longer than \(CNIReply.maximumLength) bytes") }
        if answer.bytes.isEmpty { throw notUnderstood("it closed the connection instead") }
        do throws(HandoverError) { return try CNIReply(decoding: answer.bytes) } catch {
            throw notUnderstood(error.message)
        }
    }

    // MARK: Errors

    private func unreachable(_ error: SystemError) -> CNIError {
        CNIError(
            codeWhenAway, "cannot reach the node agent at \(path)",
            details: "\(error); check that apus agent runs on this node and serves this socket. "
                + "Pods of the namespaces in exemptNamespaces start without it")
    }

    private var timedOut: CNIError {
        CNIError(
            codeWhenAway, "the node agent at \(path) did not answer within \(timeoutMilliseconds) ms",
            details: "it may be starting or overloaded, see its log; agentTimeoutMilliseconds sets the time")
    }

    private func notUnderstood(_ reason: String) -> CNIError {
        CNIError(
            codeWhenAway, "the answer of the node agent at \(path) cannot be read",
            details: "\(reason); check that agent and plugin are of one release")
    }
}
