import CNI
import Glibc
import Handover
import LinuxNetwork
import Logging

/// Accepts the plugin's connections, on its event loop's thread.
final class CNIAcceptor: EventHandler, TimerHandler {
    private let loop: EventLoop
    private let listener: SeqpacketSocket
    private let log: Logger
    private let handler: CNIServer.Handler
    private var registration: EventLoop.Registration?
    private var calls: [ObjectIdentifier: CNIConnection] = [:]

    init(
        _ loop: EventLoop, _ listener: consuming SeqpacketSocket, log: Logger,
        handler: @escaping CNIServer.Handler
    ) throws {
        self.loop = loop
        self.listener = listener
        self.log = log
        self.handler = handler
        registration = try loop.register(self.listener.raw, .read, self)
    }

    func ready(_ events: ReadyEvents) {
        // A bound: open calls want their turn, and a level-triggered listener calls again.
        for _ in 0..<16 {
            do {
                guard let socket = try listener.accept() else { return }
                let peer = try socket.peerCredentials()
                guard peer.uid == 0 else {
                    log.warning(
                        "connection refused at cni.sock", metadata: ["pid": "\(peer.pid)", "uid": "\(peer.uid)"])
                    continue
                }
                let connection = try CNIConnection(loop, socket, handler) { [weak self] connection in
                    self?.calls[ObjectIdentifier(connection)] = nil
                }
                if calls.count < CNIServer.mostCalls {
                    calls[ObjectIdentifier(connection)] = connection
                } else {
                    connection.refuse(
                        AgentError(.tryAgain, "the node agent has \(CNIServer.mostCalls) requests in hand already"))
                }
            } catch {
                pause(because: error)
                return
            }
        }
    }

    /// Out of descriptors or memory: trying at once again would only burn time.
    private func pause(because error: any Error) {
        log.error("cannot accept at cni.sock; trying again in 100 ms", metadata: ["error": "\(error)"])
        if let registration { loop.deregister(registration) }
        registration = nil
        _ = loop.schedule(after: .milliseconds(100), self)
    }

    func timerFired(tag: Int) {
        do {
            registration = try loop.register(listener.raw, .read, self)
        } catch {
            pause(because: error)
        }
    }
}

/// One call: a request in, a reply out, the end.
final class CNIConnection: EventHandler, TimerHandler {
    private let loop: EventLoop
    private let socket: SeqpacketSocket
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
        _ loop: EventLoop, _ socket: consuming SeqpacketSocket, _ handler: @escaping CNIServer.Handler,
        ended: @escaping (CNIConnection) -> Void
    ) throws {
        self.loop = loop
        self.socket = socket
        self.handler = handler
        self.ended = ended
        registration = try loop.register(self.socket.raw, .read, self)
        timer = loop.schedule(after: CNIServer.timeout, self)
    }

    func refuse(_ error: AgentError) { reply(error.reply) }

    func timerFired(tag: Int) {
        timer = nil
        work?.cancel()
        reply(AgentError(.tryAgain, "the node agent could not do it within \(CNIServer.timeout)").reply)
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
