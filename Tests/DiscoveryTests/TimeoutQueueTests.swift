import Synchronization
import Testing

@testable import Discovery

@Suite("What has waited long enough", .timeLimit(.minutes(1)))
struct TimeoutQueueTests {
    @Test("all are told once, in order and not before their time; then the queue is empty and takes more")
    func order() async throws {
        let patience = Duration.milliseconds(30)
        let queue = TimeoutQueue(after: patience)
        for round in 0..<2 {
            let (told, tell) = AsyncStream.makeStream(of: (Int, ContinuousClock.Instant).self)
            let begun = ContinuousClock().now
            for index in 0..<100 { queue.add { tell.yield((index, ContinuousClock().now)) } }
            var seen: [Int] = []
            for await (index, now) in told {
                #expect(now - begun >= patience, "round \(round)")
                seen.append(index)
                if seen.count == 100 { break }
            }
            #expect(seen == Array(0..<100))
            #expect(queue.count == 0)
        }
    }

    @Test("what is added while others are told is told as well")
    func again() async throws {
        let queue = TimeoutQueue(after: .milliseconds(5))
        let (told, tell) = AsyncStream.makeStream(of: Int.self)
        queue.add {
            tell.yield(1)
            queue.add { tell.finish() }
        }
        var seen: [Int] = []
        for await index in told { seen.append(index) }
        #expect(seen == [1] && queue.count == 0)
    }
}
