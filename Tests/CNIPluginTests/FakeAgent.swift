import Foundation
import Handover
import LinuxNetwork
import Synchronization

/// An agent that answers as a test wants it, on its own thread and socket.
final class FakeAgent: Sendable {
    /// What it does with a request.
    enum Answer: Sendable {
        case reply(CNIReply)
        case bytes([UInt8])
        /// Keeps the connection and says nothing.
        case silence
        case close
        /// Answers, and sends a descriptor along that nobody asked for.
        case replyWithDescriptor
    }

    struct Call: Sendable {
        let request: CNIRequest
        /// The namespaces that came with it.
        let namespaces: [NamespaceID]
        let truncated: Bool
    }

    private final class Listener: Sendable {
        let socket: SeqpacketSocket
        init(_ socket: consuming SeqpacketSocket) { self.socket = socket }
    }

    private struct State {
        var calls: [Call] = []
        var faults: [String] = []
        var stopped = false
    }

    let socketPath: String
    private let directory: String
    private let state = Mutex(State())
    private let done = DispatchSemaphore(value: 0)

    var calls: [Call] { state.withLock { $0.calls } }
    /// Packets it could not make sense of.
    var faults: [String] { state.withLock { $0.faults } }

    init(_ answer: @escaping @Sendable (CNIRequest) -> Answer = { _ in .reply(CNIReply()) }) throws {
        directory = NSTemporaryDirectory() + "apus-cni-test-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        socketPath = directory + "/cni.sock"
        let listener = Listener(try SeqpacketSocket.listen(path: socketPath, mode: 0o600, backlog: 4))
        let thread = Thread { [self] in
            serve(listener.socket, answer)
            done.signal()
        }
        thread.start()
    }

    /// Ends the thread and removes the socket; after this the agent is away.
    func stop() {
        let isFirst = state.withLock { state in
            defer { state.stopped = true }
            return !state.stopped
        }
        guard isFirst else { return }
        // Wakes the thread. Where this fails the thread finds the flag at its next turn.
        _ = try? SeqpacketSocket.connect(path: socketPath, milliseconds: 1_000)
        _ = done.wait(timeout: .now() + 20)
        try? FileManager.default.removeItem(atPath: directory)
    }

    private func serve(_ listener: borrowing SeqpacketSocket, _ answer: (CNIRequest) -> Answer) {
        var kept: [CInt] = []
        defer { kept.forEach { _ = Glibc.close($0) } }
        while !state.withLock({ $0.stopped }) {
            do {
                guard try listener.waitReadable(milliseconds: 10_000), let connection = try listener.accept() else {
                    continue
                }
                if try talk(over: connection, answer) == .keep {
                    kept.append(try connection.descriptor.duplicate().release())
                }
            } catch {
                state.withLock { $0.faults.append("\(error)") }
            }
        }
    }

    private enum Afterwards { case keep, close }

    private func talk(over connection: borrowing SeqpacketSocket, _ answer: (CNIRequest) -> Answer) throws -> Afterwards
    {
        guard try connection.waitReadable(milliseconds: 10_000),
            var packet = try connection.receive(limit: CNIRequest.maximumLength), !packet.bytes.isEmpty
        else { return .close }
        let request = try CNIRequest(decoding: packet.bytes)
        var namespaces: [NamespaceID] = []
        while let descriptor = packet.takeDescriptor() {
            namespaces.append(try NetworkNamespace(owning: descriptor).id)
        }
        let call = Call(request: request, namespaces: namespaces, truncated: packet.truncated)
        state.withLock { $0.calls.append(call) }
        switch answer(request) {
        case .reply(let reply): try connection.send(reply.encoded())
        case .bytes(let bytes): try connection.send(bytes)
        case .silence: return .keep
        case .close: break
        case .replyWithDescriptor: try connection.send(CNIReply().encoded(), descriptors: [connection.raw])
        }
        return .close
    }
}
