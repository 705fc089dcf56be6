import Addressing
import Glibc
import HBONE
import Identity
import LinuxNetwork
import Mesh
import Synchronization
import TLSEngine

/// A server of HBONE that is no ztunnel: a waypoint or a gateway that does with each request what the test says.
final class ForeignServer: Sendable {
    struct Request: Sendable {
        let authority: String
        let headers: [String: String]
        let identity: String
        let connection: ObjectIdentifier
    }

    enum Answer: Sendable {
        case refuse(Int)
        /// Accept, and relay to this address from within the server's pod.
        case take(Endpoint)
        /// Let it wait.
        case saysNothing
    }

    private let thread: EventLoopThread<Listener>
    private let log: Log

    private final class Log: Sendable {
        let requests = Mutex<[Request]>([])
    }

    /// What it was asked for so far.
    var requests: [Request] { log.requests.withLock { $0 } }

    init(
        in pod: TestPod, with certificate: WorkloadCertificate, port: UInt16 = 15008, maximumStreams: Int = 200,
        answer: @escaping @Sendable (Request) -> Answer
    ) throws {
        let context = try TLSContext.server(
            TLSMaterial(
                certificateChain: certificate.chainDER, privateKey: certificate.privateKeyDER,
                roots: certificate.rootsDER, trustDomain: certificate.identity.trustDomain))
        let listener = try pod.listen(port: port).release()
        let log = Log()
        self.log = log
        var settings = HBONESettings.server
        settings.maximumStreams = maximumStreams
        let chosen = settings
        thread = try EventLoopThread(name: "foreign") { loop in
            try Listener(loop, listener, context, chosen, pod) { request in
                log.requests.withLock { $0.append(request) }
                return answer(request)
            }
        }
    }

    func stop() { thread.stop() }

    private final class Listener: EventHandler, HBONEConnectionDelegate, HBONEStreamDelegate {
        private let loop: EventLoop
        private let listener: CInt
        private let context: TLSContext
        private let settings: HBONESettings
        private let pod: TestPod
        private let answer: (Request) -> Answer
        private var registration: EventLoop.Registration?
        private var connections: [ObjectIdentifier: HBONEConnection] = [:]

        init(
            _ loop: EventLoop, _ listener: CInt, _ context: TLSContext, _ settings: HBONESettings, _ pod: TestPod,
            answer: @escaping (Request) -> Answer
        ) throws {
            self.loop = loop
            self.listener = listener
            self.context = context
            self.settings = settings
            self.pod = pod
            self.answer = answer
            registration = try loop.register(listener, .accept, self)
        }

        deinit { close(listener) }

        func ready(_ events: ReadyEvents) {
            // What fails here the test sees as a connection that is not served.
            while let accepted = try? Sockets.accept(listener) {
                guard
                    let connection = try? HBONEConnection.serve(
                        accepted.takeDescriptor(), on: loop, context: context, settings: settings, delegate: self)
                else { continue }
                connections[ObjectIdentifier(connection)] = connection
            }
        }

        func connection(_ connection: HBONEConnection, received request: ConnectRequest, on stream: HBONEStream) {
            let seen = Request(
                authority: request.authority,
                headers: Dictionary(
                    request.headers.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first }),
                identity: connection.peerIdentity?.description ?? "", connection: ObjectIdentifier(connection))
            switch answer(seen) {
            case .refuse(let status): stream.reject(status: status)
            case .saysNothing: break
            case .take(let endpoint):
                do {
                    let socket = try pod.connect(to: endpoint)
                    try Talk.ready(socket.raw, POLLOUT, "the stand-in's own connection")
                    guard Sockets.pendingError(socket.raw) == 0 else { return stream.reject(status: 503) }
                    stream.accept(delegate: self)
                    stream.relay(with: socket)
                } catch {
                    stream.reject(status: 503)
                }
            }
        }

        func connectionClosed(_ connection: HBONEConnection, error: HBONEError?) {
            connections[ObjectIdentifier(connection)] = nil
        }

        func streamEnded(_ stream: HBONEStream, _ end: StreamEnd) {}
    }
}
