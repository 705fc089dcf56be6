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
    /// The first snapshot of a connection is complete (true), or the connection is gone (false).
    func keeperConnected(_ connected: Bool)
}

/// The client's end of `ztunnel.sock`: learns the pods of this node and takes over their sockets. A thread of its own,
/// since the protocol is one message and one answer at a time and must not wait for the workers' traffic.
///
/// Pods go on being served while the keeper is away.
final class ZDSClient: Sendable {
    private let path: String
    private let successor: Bool
    private let pods: any ServedPods
    private let logger: Logger
    private let stopping = Atomic<Bool>(false)
    private let wakeDescriptors: WakePipe

    init(path: String, successor: Bool, pods: any ServedPods, logger: Logger) throws(SystemError) {
        self.path = path
        self.successor = successor
        self.pods = pods
        self.logger = logger
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

    private var isStopping: Bool { stopping.load(ordering: .acquiring) }

    private func run() {
        var backoff = Backoff(first: .milliseconds(10), cap: .seconds(15))
        var lastError = ""
        while !isStopping {
            do {
                let socket = try SeqpacketSocket.connect(path: path)
                try socket.send(
                    ZDSHello(handover: ZDSHello.handoverVersion, successor: successor).encoded())
                logger.info("connected to the keeper", metadata: ["path": "\(path)"])
                lastError = ""
                try serve(socket) { backoff.reset() }
                if !isStopping { logger.info("the keeper closed the connection; pods stay served") }
            } catch {
                let text = "\(error)"
                // The keeper may be away for long: say it once, not at each attempt.
                if text != lastError {
                    logger.warning("no connection to the keeper; trying again", metadata: ["error": "\(text)"])
                }
                lastError = text
            }
            pods.keeperConnected(false)
            if !isStopping { wakeDescriptors.wait(backoff.next()) }
        }
    }

    private func serve(_ socket: borrowing SeqpacketSocket, onSnapshot: () -> Void) throws {
        var session = ZDSSession()
        while !isStopping {
            guard try wakeDescriptors.waitReadable(socket.raw) else { continue }
            guard var packet = try socket.receive(limit: ZDSRequest.maximumLength) else { continue }
            if packet.bytes.isEmpty, packet.descriptors.isEmpty { return }
            let answer: ZDSResponse
            do {
                guard !packet.truncated else {
                    throw HandedPodError("the message is longer than \(ZDSRequest.maximumLength) bytes")
                }
                try handle(ZDSRequest(decoding: packet.bytes), &packet, &session, onSnapshot)
                answer = ZDSResponse()
            } catch let breach as ZDSSession.Breach {
                try socket.send(ZDSResponse(error: "protocol: \(breach)").encoded())
                throw breach
            } catch {
                logger.warning("a message of the keeper was refused", metadata: ["error": "\(error)"])
                answer = ZDSResponse(error: "\(error)")
            }
            try socket.send(answer.encoded())
        }
    }

    private func handle(
        _ request: ZDSRequest, _ packet: inout Packet, _ session: inout ZDSSession, _ onSnapshot: () -> Void
    ) throws {
        let step =
            switch request {
            case .add(let uid, _, _): try session.add(uid)
            case .keep(let uid): try session.keep(uid)
            case .delete(let uid): try session.delete(uid)
            case .snapshotSent: try session.snapshotSent()
            case .configure(let uid, _): try session.configure(uid)
            case .update(let uid, _): try session.update(uid)
            }
        switch step {
        case .serve:
            guard case .add(let uid, let info, let kinds) = request else { return }
            guard let info else { throw HandedPodError("pod \(uid): no workload information") }
            try pods.serve(HandedPod(uid: uid, info: info, kinds: kinds, packet: &packet))
        case .stop(let uid): pods.stop(uid: uid)
        case .update(let uid):
            if case .update(_, let settings) = request { pods.update(uid: uid, settings) }
        case .reconcile(let named):
            pods.stopAll(except: named)
            pods.keeperConnected(true)
            onSnapshot()
        case .configure(let uid):
            if case .configure(_, let resolver) = request { pods.configure(uid: uid, resolver: resolver) }
        case .nothing: break
        }
    }
}

/// Delays that double up to a cap, each shortened or lengthened by up to a fifth so that many who lost the same peer do
/// not come back at once.
struct Backoff {
    private let first: Duration
    private let cap: Duration
    private var current: Duration

    init(first: Duration, cap: Duration) {
        self.first = first
        self.cap = cap
        current = first
    }

    mutating func next() -> Duration {
        defer { current = min(current * 2, cap) }
        return current * Int.random(in: 80...120) / 100
    }

    mutating func reset() { current = first }
}

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
