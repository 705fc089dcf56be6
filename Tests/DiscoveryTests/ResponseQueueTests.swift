import IstioAPI
import Synchronization
import Testing

@testable import Discovery

@Suite("Responses that wait to be applied", .timeLimit(.minutes(1)))
struct ResponseQueueTests {
    private func response(_ nonce: Int, bytes: Int = 1) -> ReceivedResponse {
        var reply = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
        reply.responseNonce = "\(nonce)"
        return ReceivedResponse(
            outcome: .init(updates: [], reply: reply, refusals: []), kind: .address, removed: [], bytes: bytes)
    }

    private func nonces(_ responses: [ReceivedResponse]) -> [String] { responses.map(\.outcome.reply.responseNonce) }

    @Test("what came meanwhile is taken together, in order, and all of it before the end")
    func together() async {
        let queue = ResponseQueue()
        for nonce in 0..<3 { await queue.add(response(nonce)) }
        #expect(nonces(await queue.next()) == ["0", "1", "2"])
        await queue.add(response(3))
        queue.finish()
        #expect(nonces(await queue.next()) == ["3"])
        #expect(await queue.next().isEmpty)
    }

    @Test("who waits for a response gets it when it comes")
    func waiting() async {
        let queue = ResponseQueue()
        async let taken = queue.next()
        await queue.add(response(1))
        #expect(nonces(await taken) == ["1"])
        async let end = queue.next()
        queue.finish()
        #expect(await end.isEmpty)
    }

    @Test("no more is read than fits, until what waits is taken")
    func bounded() async {
        let queue = ResponseQueue()
        let count = 50
        let added = Mutex(0)
        async let writing: Void = {
            for nonce in 0..<count {
                await queue.add(response(nonce, bytes: ResponseQueue.mostBytes / 2))
                added.withLock { $0 += 1 }
            }
            queue.finish()
        }()
        var seen: [String] = []
        while case let taken = await queue.next(), !taken.isEmpty {
            // The second fills it, and the writer is not done with that one before this.
            #expect(taken.count <= 2)
            seen += nonces(taken)
        }
        await writing
        #expect(seen == (0..<count).map { "\($0)" } && added.withLock { $0 } == count)
    }

    @Test("a cancelled pair of tasks ends as soon as the stream has")
    func cancelled() async {
        let queue = ResponseQueue()
        let task = Task {
            var count = 0
            while case let taken = await queue.next(), !taken.isEmpty { count += taken.count }
            return count
        }
        task.cancel()
        await queue.add(response(0, bytes: ResponseQueue.mostBytes))
        queue.finish()
        #expect(await task.value == 1)
    }
}
