import CNI
import Glibc
import Handover
import LinuxNetwork
import Logging

/// Accepts the plugin's connections, on its event loop's thread. Whoever cannot be served is told so: beyond so many calls,
/// and when no file descriptor is left.
final class CNIAcceptor: EventHandler, TimerHandler {
    private let loop: EventLoop
    private let listener: SeqpacketSocket
    private let log: Logger
    private let handler: CNIServer.Handler
    private var registration: EventLoop.Registration?
    private var calls: [ObjectIdentifier: CNIConnection] = [:]
    /// Held back so that, with no descriptor left, one caller at a time gets in and is told.
    private var spare: Spare?
    /// Nobody is accepted until a connection ends, or for a moment.
    private var isPaused = false

    /// Lets an optional hold what cannot be copied.
    private final class Spare {
        private let descriptor: FileDescriptor
        init() throws(SystemError) { descriptor = try FileDescriptor.open("/dev/null", flags: O_RDONLY) }
    }

    init(
        _ loop: EventLoop, _ listener: consuming SeqpacketSocket, log: Logger,
        handler: @escaping CNIServer.Handler
    ) throws {
        self.loop = loop
        self.listener = listener
        self.log = log
        self.handler = handler
        spare = try Spare()
        registration = try loop.register(self.listener.raw, .read, self)
    }

    func ready(_ events: ReadyEvents) {
        // A bound: open calls want their turn, and a level-triggered listener calls again.
        for _ in 0..<16 where !isPaused {
            do {
                guard let socket = try listener.accept() else { return }
                let isFull = calls.count >= CNIServer.mostCalls
                try begin(socket, refusal: isFull ? CNIServer.full : nil)
                // Those that are being told have a bound as well; the rest waits in the queue.
                if calls.count >= CNIServer.mostCalls + CNIServer.mostRefusals { pause() }
            } catch let error as SystemError where error.code == EMFILE || error.code == ENFILE {
                turnAway(because: error)
            } catch {
                log.error("cannot accept at cni.sock; trying again in 100 ms", metadata: ["error": "\(error)"])
                pause(milliseconds: 100)
            }
        }
    }

    private func begin(_ socket: consuming SeqpacketSocket, refusal: AgentError?) throws {
        let peer = try socket.peerCredentials()
        guard peer.uid == 0 else {
            log.warning("connection refused at cni.sock", metadata: ["pid": "\(peer.pid)", "uid": "\(peer.uid)"])
            return
        }
        let connection = try CNIConnection(loop, socket, refusal: refusal, handler) { [weak self] connection in
            self?.ended(connection)
        }
        calls[ObjectIdentifier(connection)] = connection
    }

    /// Out of descriptors: one caller gets the one held back, to be told; the next one waits until it has gone.
    private func turnAway(because error: SystemError) {
        log.error("no file descriptor is left for a call at cni.sock", metadata: ["error": "\(error)"])
        guard spare != nil else { return pause(milliseconds: 100) }
        spare = nil
        do {
            guard let socket = try listener.accept() else { return refill() }
            try begin(socket, refusal: CNIServer.outOfDescriptors(error))
            pause()
        } catch {
            pause(milliseconds: 100)
        }
    }

    private func ended(_ connection: CNIConnection) {
        calls[ObjectIdentifier(connection)] = nil
        // The connection's own descriptor is closed only after this.
        if isPaused { _ = loop.schedule(after: .milliseconds(1), self) }
    }

    private func refill() {
        // Where there is no room for it, whoever comes waits until there is.
        if spare == nil { spare = try? Spare() }
    }

    /// Accepts nobody until a connection ends, and at the latest after the time given.
    private func pause(milliseconds: Int = 1000) {
        isPaused = true
        if let registration { loop.deregister(registration) }
        registration = nil
        _ = loop.schedule(after: .milliseconds(milliseconds), self)
    }

    func timerFired(tag: Int) {
        guard isPaused else { return }
        refill()
        do {
            registration = try loop.register(listener.raw, .read, self)
            isPaused = false
        } catch {
            pause(milliseconds: 100)
        }
    }
}

/// One call: a request in, a reply out, the end.
final class CNIConnection: EventHandler, TimerHandler {
    private let loop: EventLoop
    private let socket: SeqpacketSocket
    /// What the caller is told instead of being served, once its request is read: closed with a request unread, the
    /// connection would be reset under the reply.
    private let refusal: AgentError?
    private let handler: CNIServer.Handler
    private let ended: (CNIConnection) -> Void
    private var registration: EventLoop.Registration?
    private var timer: TimerID?
    private var work: Task<Void, Never>?
    private var isOpen = true

    /// Carries the connection through a task and back to the loop's thread.
    private struct Carried: @unchecked Sendable {
        // Touched in jobs of the loop's own queue alone, which run on its thread.
        let connection: CNIConnection
    }

    init(
        _ loop: EventLoop, _ socket: consuming SeqpacketSocket, refusal: AgentError?,
        _ handler: @escaping CNIServer.Handler, ended: @escaping (CNIConnection) -> Void
    ) throws {
        self.loop = loop
        self.socket = socket
        self.refusal = refusal
        self.handler = handler
        self.ended = ended
        registration = try loop.register(self.socket.raw, .read, self)
        timer = loop.schedule(after: refusal == nil ? CNIServer.timeout : CNIServer.refusalTimeout, self)
    }

    private func refuse(_ error: AgentError) { reply(error.reply) }

    func timerFired(tag: Int) {
        timer = nil
        work?.cancel()
        reply(
            refusal?.reply ?? AgentError(.tryAgain, "the node agent could not do it within \(CNIServer.timeout)").reply)
    }

    func ready(_ events: ReadyEvents) {
        guard isOpen else { return }
        // After the request only the end can come: the runtime has given up.
        guard work == nil else {
            if !events.isDisjoint(with: [.hangup, .error, .readHangup]) { close() } else { refuseMore() }
            return
        }
        do {
            guard var packet = try socket.receive(limit: CNIRequest.maximumLength, descriptorLimit: 4) else { return }
            if packet.bytes.isEmpty, packet.descriptors.isEmpty { return close() }
            if let refusal { return refuse(refusal) }
            if packet.truncated, packet.descriptors.isEmpty, packet.bytes.count < CNIRequest.maximumLength {
                return refuse(CNIServer.outOfDescriptors(SystemError("receive the namespace", code: EMFILE)))
            }
            guard !packet.truncated, packet.descriptors.count <= 1 else {
                throw AgentError(.invalidRequest, "a request with more bytes or descriptors than allowed")
            }
            let request = try CNIRequest(decoding: packet.bytes)
            var namespace: Result<SharedNamespace, SystemError>?
            if let descriptor = packet.takeDescriptor() {
                do throws(SystemError) {
                    namespace = .success(SharedNamespace(try NetworkNamespace(owning: descriptor)))
                } catch {
                    namespace = .failure(error)
                }
            }
            begin(CNICall(request: request, namespace: namespace))
        } catch let error as AgentError {
            refuse(error)
        } catch {
            refuse(AgentError(.invalidRequest, "the request cannot be read", cause: "\(error)"))
        }
    }

    private func begin(_ call: CNICall) {
        let carried = Carried(connection: self)
        let remote = loop.remote
        let handler = handler
        work = Task {
            let reply = await handler(call)
            remote.submit { carried.connection.reply(reply) }
        }
    }

    private func refuseMore() {
        // A second request: nothing to say to it, and level-triggered readiness must not spin.
        close()
    }

    private func reply(_ reply: CNIReply) {
        guard isOpen else { return }
        do {
            try socket.send(reply.encoded())
        } catch {
            // The plugin is gone; it told its runtime what it knew, and DEL or ADD will come.
        }
        close()
    }

    private func close() {
        guard isOpen else { return }
        isOpen = false
        if let registration { loop.deregister(registration) }
        registration = nil
        if let timer { loop.cancel(timer) }
        timer = nil
        Sockets.shutDown(socket.raw)
        ended(self)
    }
}

extension AgentError {
    var reply: CNIReply {
        CNIReply(
            code: cniCode.rawValue, message: HandoverLimits.shortened(message),
            details: HandoverLimits.shortened(details))
    }
}
