import Glibc
import Handover
import LinuxNetwork
import Logging
import Synchronization

/// What the ZDS client drives: the pods this ztunnel serves.
protocol ServedPods: Sendable {
    /// Serves a pod, or goes on serving it when it is served already. Returns when every worker accepts.
    func serve(_ pod: HandedPod) throws
    func stop(uid: String)
    /// Whom a served pod's DNS is forwarded to.
    func configure(uid: String, resolver: PodResolver)
    /// What is to be known of a pod beside its sockets, as a whole.
    func update(uid: String, _ settings: PodSettings)
    func stopAll(except named: Set<String>)
    /// How many pods are served.
    var count: Int { get }
    /// The network namespace of a pod that is served and whose sockets were made here.
    func network(of uid: String) -> NamespaceID?
    /// Everything that the control side named is served (true), or the connection is gone or a pod waits (false).
    func controlReady(_ ready: Bool)
    /// So many pods were added and could not be served.
    func pendingChanged(_ count: Int)
}

/// The client's end of `ztunnel.sock`: learns the pods of this node, and takes over their sockets or makes them. A
/// thread of its own, since the protocol is one message and one answer at a time and must not wait for the workers'
/// traffic, and since making sockets means to enter other namespaces.
///
/// Pods go on being served while the control side is away.
final class ZDSClient: Sendable {
    private let path: String
    private let successor: Bool
    private let pods: any ServedPods
    private let socketMaker: PodSocketMaker?
    private let logger: Logger
    private let onBreach: @Sendable (String) -> Void
    private let stopping = Atomic<Bool>(false)
    private let waiting = Mutex<[String: PendingPod]>([:])
    private let wakeDescriptors: WakePipe

    /// - Parameters:
    ///   - socketMaker: With it plain ZDS is spoken, as Istio's node agent does; without, the hand-over is offered.
    ///   - onBreach: The control side broke the protocol, and the client has ended: the process is to drain and exit.
    init(
        path: String, successor: Bool, pods: any ServedPods, socketMaker: PodSocketMaker?, logger: Logger,
        onBreach: @escaping @Sendable (String) -> Void
    ) throws(SystemError) {
        self.path = path
        self.successor = successor
        self.pods = pods
        self.socketMaker = socketMaker
        self.logger = logger
        self.onBreach = onBreach
        wakeDescriptors = try WakePipe()
    }

    /// Starts the thread. ``stop()`` ends it.
    func start() throws(SystemError) -> pthread_t {
        try startThread(name: "zds") { [self] in run() }
    }

    func stop() {
        stopping.store(true, ordering: .releasing)
        wakeDescriptors.wake()
    }

    /// Pods that were added on this connection and could not be served yet.
    var pendingPods: [String: PendingPod] { waiting.withLock { $0 } }

    private var isStopping: Bool { stopping.load(ordering: .acquiring) }

    private func run() {
        var backoff = Backoff(shortest: .milliseconds(10), longest: .seconds(15))
        var lastError = ""
        // Whoever has had the pods once does not ask for them as a successor again: when the keeper is replaced while an old
        // and a new ztunnel run, both come back, and the old one must not take over from the new one.
        var hadPods = false
        while !isStopping {
            do {
                let socket = try SeqpacketSocket.connect(path: path)
                try socket.send(hello(successor: successor && !hadPods).encoded())
                logger.info("connected to the control side of this node", metadata: ["path": "\(path)"])
                lastError = ""
                try serve(socket) {
                    backoff.reset()
                    hadPods = true
                }
                if !isStopping { logger.info("the control side closed the connection; pods stay served") }
            } catch let breach as ProtocolBreach {
                logger.critical(
                    "the control side broke the protocol; ztunnel drains and ends", metadata: ["error": "\(breach)"])
                report(nil)
                return onBreach(breach.description)
            } catch {
                let text = "\(error)"
                // The control side may be away for long: say it once, not at each attempt.
                if text != lastError {
                    logger.warning(
                        "no connection to the control side; trying again",
                        metadata: ["path": "\(path)", "error": "\(text)"])
                }
                lastError = text
            }
            report(nil)
            if !isStopping { wakeDescriptors.wait(backoff.next()) }
        }
    }

    private func hello(successor: Bool) -> ZDSHello {
        guard socketMaker == nil else { return ZDSHello() }
        return ZDSHello(
            handover: ZDSHello.handoverVersion, successor: successor, serves: UInt32(clamping: pods.count))
    }

    /// Messages of ours may be longer than those of plain ZDS.
    private var packetLimit: Int { socketMaker == nil ? ZDSRequest.maximumLength : ZDSRequest.plainLength }

    /// - Throws: When the connection cannot go on.
    private func serve(_ socket: borrowing SeqpacketSocket, onSnapshot: () -> Void) throws {
        var conversation = ZDSConversation(pods: pods, socketMaker: socketMaker, logger: logger)
        while !isStopping {
            let isReadable = try wakeDescriptors.waitReadable(socket.raw)
            conversation.retry(now: MonotonicClock.now)
            defer { report(conversation) }
            guard isReadable, var packet = try socket.receive(limit: packetLimit) else { continue }
            if packet.bytes.isEmpty, packet.descriptors.isEmpty { return }
            let hadSnapshot = conversation.hasSnapshot
            let (answer, next) = conversation.answer(&packet, now: MonotonicClock.now)
            if conversation.hasSnapshot, !hadSnapshot { onSnapshot() }
            // Readiness counts before the control side hears of it.
            report(conversation)
            try socket.send(answer.encoded())
            switch next {
            case .goOn: break
            case .reconnect(let reason): throw HandedPodError("connecting again after a malformed message: \(reason)")
            case .giveUp(let reason): throw ProtocolBreach(description: reason)
            }
        }
    }

    /// - Parameter conversation: `nil` when there is no connection; what waits is forgotten with it.
    private func report(_ conversation: ZDSConversation?) {
        let pending = conversation?.pending ?? [:]
        waiting.withLock { $0 = pending }
        pods.pendingChanged(pending.count)
        pods.controlReady(conversation?.isReady ?? false)
    }
}

private struct ProtocolBreach: Error, CustomStringConvertible { let description: String }

/// Waits that another thread can cut short.
private struct WakePipe: ~Copyable, Sendable {
    private let pair: SeqpacketSocket.Pair

    init() throws(SystemError) { pair = try SeqpacketSocket.Pair() }

    borrowing func wake() {
        // A full socket means that a wake-up is waiting already.
        try? pair.first.send([1])
    }

    borrowing func wait(_ duration: Duration) {
        let milliseconds = duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
        // An error here shortens the wait; the caller's loop goes on either way.
        _ = try? pair.second.waitReadable(milliseconds: Int(milliseconds))
    }

    /// - Returns: Whether `fd` is readable; false after a wake-up or a second of nothing.
    borrowing func waitReadable(_ fd: CInt) throws(SystemError) -> Bool {
        var entries = [
            pollfd(fd: fd, events: Int16(POLLIN), revents: 0),
            pollfd(fd: pair.second.raw, events: Int16(POLLIN), revents: 0),
        ]
        let result = poll(&entries, 2, 1000)
        if result < 0, errno != EINTR { throw SystemError("poll") }
        return result > 0 && entries[0].revents != 0
    }
}
