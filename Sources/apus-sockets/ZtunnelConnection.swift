import Handover
import LinuxNetwork

/// A ztunnel at ztunnel.sock: hello, snapshot, then changes, each answered before the next is sent.
final class ZtunnelConnection: Connection {
    enum Role {
        /// Has not said hello, or was turned away.
        case unknown
        /// The pods' states are its words.
        case active
        /// Is getting the snapshot, and takes over when it has it.
        case successor
        /// Was succeeded: keeps what it has, and hears of pods that go.
        case retired
    }

    private enum Tag { static let answer = 0, retry = 1 }
    static let answerTimeout = Duration.seconds(5)

    private unowned let keeper: Keeper
    private var session = ZDSServerSession(pods: [])
    var role = Role.unknown {
        didSet { if role == .retired { session.retire() } }
    }
    /// Does not know the hand-over: gets the namespace and makes its own sockets.
    private(set) var isPlain = false
    /// Takes what is to be known of pods beside their sockets.
    private(set) var takesUpdates = false

    override var packetLimit: (bytes: Int, descriptors: Int) { (ZDSResponse.maximumLength, 0) }

    init(_ keeper: Keeper, _ socket: consuming SeqpacketSocket, _ peer: PeerCredentials) throws {
        self.keeper = keeper
        try super.init(keeper.loop, keeper.log, socket, peer)
        setTimer(Tag.answer, after: Self.answerTimeout)
    }

    func standing(of uid: String) -> ZDSServerSession.Standing? { session.standing[uid] }

    func begin(
        with pods: some Sequence<String>, updated: Set<String>, isWhole: Bool, handover: UInt32, as role: Role
    ) {
        isPlain = handover == 0
        takesUpdates = handover >= ZDSHello.updatesSince
        self.role = role
        session = ZDSServerSession(pods: pods, updated: takesUpdates ? updated : [], isWhole: isWhole)
    }

    func endSnapshot() {
        session.endSnapshot()
        pump()
    }

    func add(_ uid: String) {
        session.add(uid)
        pump()
    }

    /// Tells whom a pod's DNS is forwarded to, if this ztunnel takes that.
    func configure(_ uid: String) {
        guard !isPlain else { return }
        session.configure(uid)
        pump()
    }

    func update(_ uid: String) {
        guard takesUpdates else { return }
        session.update(uid)
        pump()
    }

    /// - Returns: Whether ``Keeper/answered(_:_:error:)`` or the connection's end will follow.
    func delete(_ uid: String) -> Bool {
        let awaited = session.delete(uid)
        pump()
        return awaited && isOpen
    }

    override func received(_ packet: consuming Packet) throws {
        guard packet.descriptors.isEmpty else { throw Refusal("ztunnel sent descriptors") }
        if role == .unknown {
            try keeper.hello(from: self, ZDSHello(decoding: packet.bytes))
        } else {
            let error = try ZDSResponse(decoding: packet.bytes).error
            guard let item = session.answered(error: error) else {
                throw Refusal("ztunnel answered what it was not asked")
            }
            keeper.answered(self, item, error: error)
            if session.hasRefused { retryLater() }
        }
        guard isOpen else { return }
        cancelTimer(Tag.answer)
        pump()
    }

    private func retryLater() {
        setTimerOnce(Tag.retry, after: .milliseconds(Int.random(in: 4000...6000)))
    }

    override func expired(tag: Int) {
        if tag == Tag.answer {
            return close(because: Refusal("no \(role == .unknown ? "hello" : "answer") from ztunnel for 5 s"))
        }
        if role != .retired { session.retryRefused() }
        pump()
    }

    override func ended() { keeper.ended(self) }

    private func pump() {
        while isOpen, let item = session.next() {
            do {
                guard try send(item) else { continue }
                return setTimer(Tag.answer, after: Self.answerTimeout)
            } catch {
                close(because: error)
            }
        }
    }

    /// - Returns: `false` when the message could not be made; the session has been told why.
    private func send(_ item: ZDSServerSession.Item) throws -> Bool {
        switch item {
        case .snapshotSent: try send(ZDSRequest.snapshotSent.encoded())
        case .delete(let uid): try send(ZDSRequest.delete(uid: uid).encoded())
        case .configure(let uid):
            guard let request = keeper.configuration(of: uid) else {
                _ = session.answered(error: "")
                return false
            }
            try send(request.encoded())
        case .update(let uid):
            // Gone meanwhile: its deletion is in the queue.
            guard let settings = keeper.pods[uid]?.description.settings else {
                _ = session.answered(error: "")
                return false
            }
            try send(ZDSRequest.update(uid: uid, settings).encoded())
        case .add(let uid):
            do {
                let (request, descriptors) = try keeper.addition(of: uid, plain: isPlain)
                try send(request.encoded(), descriptors: descriptors)
                if !isPlain { session.configure(uid) }
            } catch let error as Refusal {
                _ = session.answered(error: error.description)
                keeper.answered(self, item, error: error.description)
                retryLater()
                return false
            }
        }
        return true
    }
}
