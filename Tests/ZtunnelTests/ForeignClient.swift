import Addressing
import Foundation
import HBONE
import Identity
import LinuxNetwork
import Mesh
import Synchronization
import TLSEngine
import Testing

/// A client that is no ztunnel: it says to port 15008 of a pod whatever the test wants.
enum ForeignClient {
    enum Answer: Equatable, Sendable {
        case status(Int)
        case refused(String)
    }

    /// Asks for a tunnel and returns what came of it.
    static func ask(
        _ authority: String, at endpoint: Endpoint, from pod: TestPod, with certificate: WorkloadCertificate,
        expecting expected: [SPIFFEIdentity]
    ) async throws -> Answer {
        try await begin(authority, at: endpoint, from: pod, with: certificate, expecting: expected).value
    }

    /// A question that was asked.
    struct Question: Sendable {
        fileprivate let answers: AsyncStream<Answer>
        fileprivate let thread: EventLoopThread<Exchange>

        var value: Answer {
            get async throws {
                defer { thread.stop() }
                // The connection's own time limits see to it that there is an answer.
                for await answer in answers { return answer }
                throw Unmet("no answer")
            }
        }
    }

    /// Asks, on a thread of its own: the test may play the application meanwhile, and block the few that tasks run on.
    static func begin(
        _ authority: String, at endpoint: Endpoint, from pod: TestPod, with certificate: WorkloadCertificate,
        expecting expected: [SPIFFEIdentity]
    ) throws -> Question {
        let context = try TLSContext.client(
            TLSMaterial(
                certificateChain: certificate.chainDER, privateKey: certificate.privateKeyDER,
                roots: certificate.rootsDER))
        let descriptor = try pod.connect(to: endpoint).release()
        let (answers, continuation) = AsyncStream.makeStream(of: Answer.self)
        let thread = try EventLoopThread(name: "foreign") { loop in
            try Exchange(
                loop, FileDescriptor(owning: descriptor), endpoint, context, expected,
                ConnectRequest(authority: authority)
            ) { continuation.yield($0) }
        }
        return Question(answers: answers, thread: thread)
    }

    fileprivate final class Exchange: HBONEConnectionDelegate, HBONEStreamDelegate {
        private let answer: (Answer) -> Void
        private var connection: HBONEConnection?
        private var hasAnswered = false

        init(
            _ loop: EventLoop, _ descriptor: consuming FileDescriptor, _ endpoint: Endpoint, _ context: TLSContext,
            _ expected: [SPIFFEIdentity], _ request: ConnectRequest, answer: @escaping (Answer) -> Void
        ) throws {
            self.answer = answer
            let connection = try HBONEConnection.open(
                descriptor, to: endpoint, on: loop, context: context, expectedIdentities: expected, delegate: self)
            self.connection = connection
            _ = try connection.open(request, deadline: .seconds(8), delegate: self)
        }

        private func say(_ answer: Answer) {
            guard !hasAnswered else { return }
            hasAnswered = true
            self.answer(answer)
        }

        func stream(_ stream: HBONEStream, received reply: ConnectReply) { say(.status(reply.status)) }
        func streamEnded(_ stream: HBONEStream, _ end: StreamEnd) {
            say(.refused("\(end.error?.code.description ?? "end")"))
        }
        func connectionClosed(_ connection: HBONEConnection, error: HBONEError?) {
            say(.refused("\(error?.code.description ?? "end")"))
        }
    }
}
