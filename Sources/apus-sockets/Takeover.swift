import Handover
import LinuxNetwork

/// What a keeper does for the one that takes over from it: a pod, an answer, the next pod; in the end the two listeners.
///
/// The answer to the last message decides. Whoever sent it is the keeper, and this one ends; without it this one is,
/// and goes on. ``ended()`` shuts the connection before it looks for that answer, so both sides see the same outcome.
final class Takeover {
    private unowned let keeper: Keeper
    private unowned let successor: AgentConnection
    private var waiting: ArraySlice<Pod>
    private var inFlight: Pod?
    private var refused: [Pod] = []
    private let total: Int
    private let sockets: [CInt]
    private var isLast = false
    private var isDone = false

    /// - Parameter sockets: The listeners of keeper.sock and ztunnel.sock.
    init(_ keeper: Keeper, _ successor: AgentConnection, pods: [Pod], sockets: [CInt]) {
        self.keeper = keeper
        self.successor = successor
        self.sockets = sockets
        waiting = pods[...]
        total = pods.count
    }

    func next() throws {
        if let pod = waiting.popFirst() {
            inFlight = pod
            let (kept, descriptors) = pod.kept
            try successor.hand(.handed(kept), descriptors)
        } else {
            isLast = true
            try successor.hand(.handedAll(pods: UInt32(total)), sockets)
        }
    }

    func answered(_ error: String) throws {
        if let pod = inFlight {
            inFlight = nil
            if !error.isEmpty {
                keeper.log.error("the successor does not take a pod", ["uid": pod.uid, "error": error])
                refused.append(pod)
            }
            return try next()
        }
        guard isLast, error.isEmpty else { throw Refusal("the successor gives up: \(error)") }
        isDone = true
        keeper.succeeded(refused: refused)
    }

    /// The connection is shut, by a failure on either side.
    func ended() {
        guard !isDone else { return }
        isDone = true
        if isLast, let packet = successor.receiveLast(),
            // What cannot be read is no yes.
            case .taken("")? = try? KeeperRequest(decoding: packet.bytes).command
        {
            return keeper.succeeded(refused: refused)
        }
        keeper.takeoverFailed()
    }
}
