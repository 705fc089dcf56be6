import Glibc
import Handover
import LinuxNetwork

/// The agent at keeper.sock: requests in, replies out, and the pods' states as they change. Or a keeper that takes over.
final class AgentConnection: Connection {
    private enum Tag { static let hello = 0, takeover = 1 }
    /// How long a successor may look at what it was handed.
    private static let answerTimeout = Duration.seconds(5)
    /// With so many replies unsent no further request is read.
    private static let mostReplies = 64

    private unowned let keeper: Keeper
    private var greeted = false
    /// Keeps copies of the pods' listeners.
    private(set) var keeps = false
    private var replies: [(bytes: [UInt8], listeners: [Listener])] = []
    /// Pods whose state has changed, in order, each once: a slow agent gets the last state, not all of them.
    private var changed: [String] = []
    private var waitsToWrite = false
    private var takeover: Takeover?

    override var packetLimit: (bytes: Int, descriptors: Int) { (KeeperRequest.maximumLength, 8) }

    init(_ keeper: Keeper, _ socket: consuming SeqpacketSocket, _ peer: PeerCredentials) throws {
        self.keeper = keeper
        try super.init(keeper.loop, keeper.log, socket, peer)
        setTimer(Tag.hello, after: .seconds(5))
    }

    override func received(_ packet: consuming Packet) throws {
        let request = try KeeperRequest(decoding: packet.bytes)
        if case .hello(let version, let keeps) = request.command {
            guard version == KeeperRequest.version else {
                return reply(request.id, error: "this keeper speaks version \(KeeperRequest.version), not \(version)")
            }
            greeted = true
            self.keeps = keeps
            cancelTimer(Tag.hello)
            keeper.agentSaidHello(self)
            return reply(request.id)
        }
        if case .takeover(let version) = request.command, !greeted, takeover == nil {
            return try beginTakeover(request.id, version)
        }
        if case .taken(let error) = request.command, let takeover {
            cancelTimer(Tag.takeover)
            return try takeover.answered(error)
        }
        guard greeted else { throw Refusal("the agent did not begin with hello") }
        switch request.command {
        case .hello: break
        case .takeover, .taken: throw Refusal("the agent is no keeper")
        case .addPod(let pod, let kinds):
            do {
                guard packet.descriptors.count == 1 + kinds.count, let descriptor = packet.takeDescriptor() else {
                    throw Refusal("addPod carries \(packet.descriptors.count) descriptors instead of the namespace's")
                }
                var listeners = try SortedDescriptors(kinds, &packet)
                let status = try keeper.add(pod, descriptor, &listeners)
                reply(request.id, pods: [status], listeners: keeps ? keeper.pods[pod.uid]?.allListeners ?? [] : [])
            } catch {
                log.warn("a pod was not taken", ["uid": pod.uid, "error": error])
                reply(request.id, error: "\(error)")
            }
        case .named:
            keeper.namesAreComplete()
            reply(request.id)
        case .removePod(let uid, let drain):
            keeper.remove(uid, drain: drain, for: self, request.id)
        case .list:
            var pods = keeper.list()[...]
            repeat {
                let page = pods.prefix(KeeperReply.maximumPods)
                pods = pods.dropFirst(KeeperReply.maximumPods)
                reply(request.id, pods: Array(page), more: !pods.isEmpty)
            } while !pods.isEmpty
        }
    }

    private func beginTakeover(_ id: UInt64, _ version: UInt32) throws {
        cancelTimer(Tag.hello)
        guard version == KeeperRequest.takeoverVersion else {
            return reply(
                id, error: "this keeper hands over in version \(KeeperRequest.takeoverVersion), not \(version)")
        }
        do {
            takeover = try keeper.handOver(to: self)
        } catch {
            return reply(id, error: "\(error)")
        }
        reply(id)
        try takeover?.next()
    }

    /// To a successor, which answers each before it gets the next.
    func hand(_ content: KeeperMessage.Content, _ descriptors: [CInt]) throws {
        try send(KeeperMessage(content).encoded(), descriptors: descriptors)
        setTimer(Tag.takeover, after: Self.answerTimeout)
    }

    func reply(
        _ id: UInt64, error: String? = nil, pods: [PodStatus] = [], more: Bool = false, listeners: [Listener] = []
    ) {
        let error = error.map(HandoverLimits.shortened)
        let reply = KeeperReply(id: id, error: error, pods: pods, more: more, listeners: listeners.map(\.kind))
        replies.append((KeeperMessage(.reply(reply)).encoded(), listeners))
        if !waitsToWrite { writable() }
    }

    func podChanged(_ uid: String) {
        if !changed.contains(uid) { changed.append(uid) }
        if !waitsToWrite { writable() }
    }

    override func writable() {
        do {
            while let reply = replies.first {
                try send(reply.bytes, descriptors: reply.listeners.map { $0.socket.raw })
                replies.removeFirst()
            }
            while let uid = changed.first {
                if let status = keeper.status(of: uid) { try send(KeeperMessage(.podStatus(status)).encoded()) }
                changed.removeFirst()
            }
            if waitsToWrite { wait(reading: true, writing: false) }
            waitsToWrite = false
        } catch  where error.code == EAGAIN {
            waitsToWrite = true
            wait(reading: replies.count < Self.mostReplies, writing: true)
        } catch {
            close(because: error)
        }
    }

    override func expired(tag: Int) {
        close(because: Refusal(tag == Tag.hello ? "no hello from the agent for 5 s" : "no answer from the successor"))
    }

    override func ended() {
        takeover?.ended()
        takeover = nil
        keeper.ended(self)
    }
}
