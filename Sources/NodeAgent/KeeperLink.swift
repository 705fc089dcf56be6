import Glibc
import Handover
import LinuxNetwork

/// The connection behind ``KeeperClient``, on its event loop's thread.
final class KeeperLink: EventHandler, TimerHandler {
    typealias Answer = @Sendable (Result<[KeeperPodStatus], AgentError>) -> Void

    private struct Question {
        let command: KeeperRequest.Command
        let answer: Answer
        let timer: TimerID
        var pods: [KeeperPodStatus] = []
    }

    private static let helloID: UInt64 = 0
    private static let reconnectTag = -1
    private static let helloTag = 0
    static let mostQuestions = 1024
    /// A pod has no more: three ports, and DNS by two transports and two families.
    private static let mostListeners = 7
    /// The message of the error for what was asked and not answered when the connection ended.
    static let broke = "the connection to the keeper broke"
    /// The message of the error for what is asked while there is no keeper.
    static let away = "the keeper is not there"
    /// Milliseconds.
    private static let shortestPause = 4
    private static let longestPause = 5_000

    private let loop: EventLoop
    private let path: String
    private let tell: @Sendable (KeeperEvent) -> Void
    private var socket: Box?
    private var registration: EventLoop.Registration?
    private var helloTimer: TimerID?
    private var greeted = false
    private var reported = false
    private var ended = false
    private var nextID: UInt64 = 1
    private var questions: [UInt64: Question] = [:]
    /// Requests the socket had no room for.
    private var unsent: [Unsent] = []
    /// By uid: what the next keeper gets should this one be killed.
    private var kept: [String: KeptListeners] = [:]
    private var pause = KeeperLink.shortestPause

    private struct Unsent {
        let id: UInt64
        let bytes: [UInt8]
        let namespace: SharedNamespace?
        let listeners: KeptListeners?

        var descriptors: [CInt] { (namespace.map { [$0.value.raw] } ?? []) + (listeners?.raw ?? []) }
    }

    /// Lets an optional hold what cannot be copied.
    private final class Box {
        let socket: SeqpacketSocket
        init(_ socket: consuming SeqpacketSocket) { self.socket = socket }
    }

    init(_ loop: EventLoop, path: String, tell: @escaping @Sendable (KeeperEvent) -> Void) {
        self.loop = loop
        self.path = path
        self.tell = tell
    }

    // MARK: Requests

    var isConnected: Bool { greeted }

    func ask(
        _ command: KeeperRequest.Command, _ namespace: SharedNamespace?, _ timeout: Duration, answer: @escaping Answer
    ) {
        guard greeted else {
            return answer(
                .failure(
                    AgentError(
                        .tryAgain, Self.away, cause: "no connection to \(path)",
                        hint: "check that apus-sockets runs on this node with the same run directory")))
        }
        guard questions.count < Self.mostQuestions else {
            return answer(.failure(AgentError(.tryAgain, "too many requests wait for the keeper")))
        }
        let id = nextID
        nextID += 1
        let timer = loop.schedule(after: timeout, self, tag: Int(id))
        questions[id] = Question(command: command, answer: answer, timer: timer)
        let (command, listeners) = withKept(command)
        let bytes = KeeperRequest(id: id, command: command).encoded()
        unsent.append(Unsent(id: id, bytes: bytes, namespace: namespace, listeners: listeners))
        flush()
    }

    /// An addition brings the pod's listeners along. A keeper that has them leaves them as they are.
    private func withKept(_ command: KeeperRequest.Command) -> (KeeperRequest.Command, KeptListeners?) {
        guard case .addPod(let pod, _) = command, let known = kept[pod.uid], known.namespaceInode == pod.netnsInode
        else { return (command, nil) }
        return (.addPod(pod, listeners: known.kinds), known)
    }

    private func flush() {
        guard let socket else { return }
        do {
            while let next = unsent.first {
                try socket.socket.send(next.bytes, descriptors: next.descriptors)
                unsent.removeFirst()
            }
            if let registration { try loop.modify(registration, .read) }
        } catch  where error.code == EAGAIN {
            guard let registration else { return }
            do { try loop.modify(registration, [.read, .write]) } catch { lost("\(error)") }
        } catch {
            lost("\(error)")
        }
    }

    // MARK: Connection

    func connect() {
        guard !ended, socket == nil else { return }
        do {
            let connected = try SeqpacketSocket.connect(path: path)
            // Whoever else could put a socket there must not be handed pods' namespaces.
            let peer = try connected.peerCredentials()
            guard peer.uid == 0 || peer.uid == geteuid() else {
                throw SystemError("the keeper at \(path) runs as user \(peer.uid)", code: EPERM)
            }
            registration = try loop.register(connected.raw, .read, self)
            try connected.send(
                KeeperRequest(id: Self.helloID, command: .hello(version: KeeperRequest.version, keeps: true)).encoded())
            socket = Box(connected)
            helloTimer = loop.schedule(after: .seconds(5), self, tag: Self.helloTag)
        } catch {
            lost("\(error)")
        }
    }

    func end() {
        ended = true
        lost("the agent is ending")
    }

    private func lost(_ reason: String) {
        if let registration { loop.deregister(registration) }
        registration = nil
        socket = nil
        if let helloTimer { loop.cancel(helloTimer) }
        helloTimer = nil
        let wasGreeted = greeted
        greeted = false
        unsent = []
        let open = questions
        questions = [:]
        for question in open.values {
            loop.cancel(question.timer)
            question.answer(.failure(AgentError(.tryAgain, Self.broke, cause: reason)))
        }
        guard !ended else { return }
        // Said once, not at every attempt.
        if wasGreeted || !reported { tell(.disconnected(reason)) }
        reported = true
        let wait = Int.random(in: (pause / 2)...pause)
        pause = Swift.min(pause * 2, Self.longestPause)
        _ = loop.schedule(after: .milliseconds(wait), self, tag: Self.reconnectTag)
    }

    // MARK: Events

    func timerFired(tag: Int) {
        switch tag {
        case Self.reconnectTag: connect()
        case Self.helloTag:
            helloTimer = nil
            lost("the keeper did not answer hello within 5 s")
        default:
            guard let question = questions.removeValue(forKey: UInt64(tag)) else { return }
            unsent.removeAll { $0.id == UInt64(tag) }
            question.answer(.failure(AgentError(.tryAgain, "the keeper did not answer in time")))
        }
    }

    func ready(_ events: ReadyEvents) {
        if events.contains(.writable) { flush() }
        do {
            for _ in 0..<64 {
                guard let socket,
                    var packet = try socket.socket.receive(
                        limit: KeeperMessage.maximumLength, descriptorLimit: Self.mostListeners)
                else { return }
                guard !packet.bytes.isEmpty else { return lost("the keeper closed the connection") }
                let message = try KeeperMessage(decoding: packet.bytes)
                guard !packet.truncated || Self.onlyLacksListeners(message, packet) else {
                    return lost("a packet that is too long")
                }
                take(message, &packet)
            }
        } catch {
            lost("\(error)")
        }
    }

    /// The kernel leaves descriptors out when this process may open no more. Then the pod's listeners are not kept, and
    /// nothing else is amiss.
    private static func onlyLacksListeners(_ message: KeeperMessage, _ packet: borrowing Packet) -> Bool {
        guard case .reply(let reply) = message.content else { return false }
        return packet.descriptors.count < reply.listeners.count
    }

    private func take(_ message: KeeperMessage, _ packet: inout Packet) {
        switch message.content {
        case .podStatus(let status):
            if greeted { tell(.podStatus(status)) }
        case .handed, .handedAll: lost("the keeper hands over to us, who are no keeper")
        case .reply(let reply) where reply.id == Self.helloID && !greeted:
            if let error = reply.error { return lost("the keeper refuses us: \(error)") }
            if let helloTimer { loop.cancel(helloTimer) }
            helloTimer = nil
            greeted = true
            pause = Self.shortestPause
            tell(.connected)
        case .reply(let reply):
            guard var question = questions[reply.id] else { return }
            if let error = reply.error {
                finish(reply.id, question, .failure(AgentError(.tryAgain, "the keeper refused", cause: error)))
                return
            }
            keep(reply, of: question.command, &packet)
            question.pods += reply.pods
            questions[reply.id] = question
            if !reply.more { finish(reply.id, question, .success(question.pods)) }
        }
    }

    private func keep(_ reply: KeeperReply, of command: KeeperRequest.Command, _ packet: inout Packet) {
        switch command {
        case .addPod(let pod, _): kept[pod.uid] = KeptListeners(reply, &packet)
        case .removePod(let uid, _): kept[uid] = nil
        case .hello, .list, .named, .takeover, .taken: break
        }
    }

    private func finish(_ id: UInt64, _ question: Question, _ result: Result<[KeeperPodStatus], AgentError>) {
        questions[id] = nil
        loop.cancel(question.timer)
        question.answer(result)
    }
}
