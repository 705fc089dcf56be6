import Glibc
import Handover
import LinuxNetwork

/// How a new keeper takes over from the one that serves in its run directory, before it serves anybody itself.
///
/// It becomes the keeper with the answer to the last message (``Takeover``); until then whatever it holds are copies, and
/// its end changes nothing. When the other one dies on the way, it goes on with what it has.
struct Succession {
    /// For one message of the other keeper.
    private static let timeout = 5000

    private let directory: RunDirectory
    private let log: Log
    private let home: NamespaceID

    init(_ directory: RunDirectory, _ log: Log, home: NamespaceID) {
        self.directory = directory
        self.log = log
        self.home = home
    }

    /// The two listeners, which the other keeper sends last.
    private struct Listeners: ~Copyable {
        let agents: SeqpacketSocket
        let ztunnels: SeqpacketSocket
    }

    /// - Returns: Whether `keeper` serves now; else nobody does, and it is to make its own sockets.
    /// - Throws: When the other keeper goes on.
    func run(_ keeper: Keeper) throws -> Bool {
        guard let socket = try directory.connectToLiveKeeper() else {
            log.info("no keeper to take over from")
            return false
        }
        let peer = try socket.peerCredentials()
        guard peer.uid == geteuid() else {
            throw Refusal("the keeper at \(directory.keeperSocket) runs as user \(peer.uid)")
        }
        // Without it no socket can be told from another pod's.
        let probe = try Sockets.tcp(dualStack: false)
        _ = try Sockets.namespaceCookie(probe.raw)
        var pods: [InheritedPod] = []
        do {
            let listeners = try take(from: socket, &pods)
            keeper.adopt(pods)
            try listeners.agents.listenAgain()
            try listeners.ztunnels.listenAgain()
            try keeper.serve(
                agents: listeners.agents, ztunnels: listeners.ztunnels, ztunnelUID: directory.ztunnelUID)
            log.info("taken over", ["from": peer.pid, "pods": pods.count])
            return true
        } catch let error as Broken {
            guard try isAbandoned() else { throw Refusal("the running keeper goes on: \(error.reason)") }
            log.warn(
                "the other keeper died on the way; going on with what it had handed over",
                ["pid": peer.pid, "pods": pods.count, "error": error.reason])
            keeper.adopt(pods)
            return false
        }
    }

    /// The conversation ended before this keeper was the keeper.
    private struct Broken: Error { let reason: String }

    private func take(from socket: borrowing SeqpacketSocket, _ pods: inout [InheritedPod]) throws -> Listeners {
        do {
            try socket.send(
                KeeperRequest(id: 1, command: .takeover(version: KeeperRequest.takeoverVersion)).encoded())
            guard case .reply(let reply) = try next(socket).message.content else {
                throw Refusal("not a reply to the first message")
            }
            if let error = reply.error { throw Refusal("it refuses: \(error)") }
            var refused = 0
            while true {
                var received = try next(socket)
                switch received.message.content {
                case .handed(let kept):
                    do {
                        pods.append(try inherit(kept, &received.packet, pods))
                        try answer(socket)
                    } catch let refusal as InvalidPod {
                        log.error("a pod is not taken", ["uid": kept.pod.uid, "error": refusal.reason])
                        refused += 1
                        try answer(socket, refusal.reason)
                    }
                case .handedAll(let count):
                    guard Int(count) == pods.count + refused else {
                        throw Refusal("it had \(count) pods, and \(pods.count + refused) came")
                    }
                    let listeners = try Self.listeners(&received.packet)
                    try answer(socket)
                    return listeners
                case .reply, .podStatus: throw Refusal("a message that is none of a takeover")
                }
            }
        } catch {
            // So that the other one knows before it is looked for.
            Sockets.shutDown(socket.raw)
            throw Broken(reason: "\(error)")
        }
    }

    private struct InvalidPod: Error { let reason: String }

    private func inherit(_ kept: KeptPod, _ packet: inout Packet, _ pods: [InheritedPod]) throws(InvalidPod)
        -> InheritedPod
    {
        do {
            let pod = try InheritedPod(kept, &packet, home: home)
            for other in pods {
                guard other.description.uid != pod.description.uid else { throw Refusal("the pod came twice") }
                guard other.namespace.value.id != pod.namespace.value.id else {
                    throw Refusal("\(pod.namespace.value.id) belongs to the pod \(other.description.uid)")
                }
            }
            guard pods.count < Keeper.mostPods else { throw Refusal("there are \(Keeper.mostPods) pods already") }
            return pod
        } catch {
            throw InvalidPod(reason: "\(error)")
        }
    }

    private struct Received: ~Copyable {
        let message: KeeperMessage
        var packet: Packet
    }

    private func next(_ socket: borrowing SeqpacketSocket) throws -> Received {
        guard try socket.waitReadable(milliseconds: Self.timeout),
            let packet = try socket.receive(
                limit: KeeperMessage.maximumLength, descriptorLimit: HandoverLimits.descriptors)
        else { throw Refusal("it said nothing for 5 s") }
        guard !packet.bytes.isEmpty else {
            throw Refusal("it closed the connection; one of before the takeover does so, too")
        }
        guard !packet.truncated else { throw Refusal("a packet that is too long") }
        return Received(message: try KeeperMessage(decoding: packet.bytes), packet: packet)
    }

    private func answer(_ socket: borrowing SeqpacketSocket, _ error: String = "") throws {
        try socket.send(
            KeeperRequest(id: 2, command: .taken(error: HandoverLimits.shortened(error))).encoded())
    }

    private static func listeners(_ packet: inout Packet) throws -> Listeners {
        guard packet.descriptors.count == 2, let first = packet.takeDescriptor(), let second = packet.takeDescriptor()
        else { throw Refusal("not two listeners") }
        for raw in [first.raw, second.raw] {
            guard try Sockets.domain(raw) == AF_UNIX, try Sockets.type(raw) == CInt(SOCK_SEQPACKET.rawValue),
                Sockets.isListening(raw)
            else { throw Refusal("what it listens at for others is no listener") }
        }
        return Listeners(agents: SeqpacketSocket(owning: first), ztunnels: SeqpacketSocket(owning: second))
    }

    /// Whether the other keeper is dead. One that is dying takes a moment for it.
    private func isAbandoned() throws -> Bool {
        let deadline = MonotonicClock.now + 1_000_000_000
        while try directory.connectToLiveKeeper() != nil {
            if MonotonicClock.now > deadline { return false }
            poll(nil, 0, 20)
        }
        return true
    }
}
