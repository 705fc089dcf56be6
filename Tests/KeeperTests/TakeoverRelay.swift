import Glibc
import Handover
import LinuxNetwork
import Testing

/// Stands between a keeper and its successor, passes on what they say, and lets a test step in between two packets. The
/// successor believes that the keeper is in the relay's directory.
final class TakeoverRelay {
    enum Step: Equatable {
        /// The keeper's message with this number, counted from 0: the reply, the pods, the two listeners.
        case message(Int)
        /// The successor's answer to it; that to the reply is none.
        case answer(Int)
    }

    enum Act {
        case pass
        /// Passes these on in place of the packet's descriptors.
        case replace([CInt])
        /// Passes nothing on and hangs up on both.
        case end
    }

    let directory: Scratch
    private var listener: CInt

    init() throws {
        directory = try Scratch()
        let path = directory.file("keeper.sock")
        let socket = try SeqpacketSocket.listen(path: path, mode: 0o600)
        listener = try copy(of: socket.raw).release()
    }

    /// Nobody answers there any more.
    func stopListening() {
        if listener >= 0 { close(listener) }
        listener = -1
    }

    deinit { stopListening() }

    func run(
        _ keeper: KeeperProcess, act: (Step, KeeperMessage?, [CInt]) throws -> Act
    ) throws {
        try #require(ready(listener, POLLIN))
        guard let accepted = try Sockets.accept(listener) else { throw Complaint("no successor") }
        let successor = SeqpacketSocket(owning: accepted.takeDescriptor())
        let old = try SeqpacketSocket.connect(path: keeper.keeperSocket)
        var number = 0
        var fromSuccessor = true
        var isFirst = true
        while true {
            let (source, target) = fromSuccessor ? (successor.raw, old.raw) : (old.raw, successor.raw)
            try #require(ready(source, POLLIN))
            var buffer = [UInt8](repeating: 0, count: KeeperMessage.maximumLength)
            let (bytes, descriptors) = try receivePacket(source, &buffer)
            defer { for descriptor in descriptors { close(descriptor) } }
            if bytes.isEmpty { return }
            var act_ = Act.pass
            if fromSuccessor {
                if !isFirst { act_ = try act(.answer(number - 1), nil, []) }
                isFirst = false
            } else {
                act_ = try act(.message(number), KeeperMessage(decoding: bytes), descriptors)
                number += 1
            }
            let passed: [CInt]
            switch act_ {
            case .pass: passed = descriptors
            case .replace(let others): passed = others
            case .end: return
            }
            try SeqpacketSocket(owning: copy(of: target)).send(bytes, descriptors: passed)
            // The reply to the first message has no answer.
            fromSuccessor = fromSuccessor ? false : number > 1
        }
    }
}
