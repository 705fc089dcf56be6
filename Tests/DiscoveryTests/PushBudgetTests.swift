import Synchronization
import Testing

@testable import Discovery

@Suite("What is on its way in large responses", .timeLimit(.minutes(1)))
struct PushBudgetTests {
    private func eventually(_ condition: @escaping @Sendable () -> Bool) async -> Bool {
        // Nothing says when a budget has changed, so it is asked.
        let deadline = ContinuousClock().now + .seconds(20)
        while !condition(), ContinuousClock().now < deadline { await Task.yield() }
        return condition()
    }

    private final class Order: Sendable {
        let admitted = Mutex<[Int]>([])
    }

    @Test("small ones are not counted, one may be larger than the limit, others wait in turn")
    func turns() async throws {
        let budget = PushBudget(limit: 1 << 20, patience: .seconds(60))
        #expect(try await budget.admit(PushBudget.exempt) == nil)
        let huge = try #require(try await budget.admit(5 << 20))
        let order = Order()
        var tasks: [Task<UInt64?, any Error>] = []
        for index in 0..<3 {
            tasks.append(
                Task {
                    let ticket = try await budget.admit(600 << 10)
                    order.admitted.withLock { $0.append(index) }
                    return ticket
                })
            #expect(await eventually { budget.load.waiting == index + 1 })
        }
        budget.release(huge)
        let first = try #require(try await tasks[0].value)
        // Two do not fit beside each other.
        #expect(budget.load.used == 600 << 10 && budget.load.waiting == 2)
        budget.release(first)
        budget.release(first)
        budget.release(try #require(try await tasks[1].value))
        budget.release(try #require(try await tasks[2].value))
        #expect(order.admitted.withLock { $0 } == [0, 1, 2])
        #expect(budget.load.used == 0 && budget.load.waiting == 0)
    }

    @Test("who is gone does not wait, and what it waited for goes to the next")
    func gone() async throws {
        let budget = PushBudget(limit: 1 << 20, patience: .seconds(60))
        let held = try #require(try await budget.admit(1 << 20))
        let gone = Task { try await budget.admit(1 << 20) }
        let next = Task { try await budget.admit(1 << 20) }
        #expect(await eventually { budget.load.waiting == 2 })
        gone.cancel()
        #expect(await eventually { budget.load.waiting == 1 })
        await #expect(throws: CancellationError.self) { try await gone.value }
        budget.release(held)
        #expect(try await next.value != nil)
        let late = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await budget.admit(1 << 20)
        }
        await #expect(throws: CancellationError.self) { try await late.value }
        #expect(budget.load.waiting == 0)
    }

    @Test("a client that does not answer holds the others up for so long and no longer")
    func patience() async throws {
        let budget = PushBudget(limit: 1 << 20, patience: .milliseconds(50))
        let slow = try #require(try await budget.admit(1 << 20))
        #expect(try await budget.admit(1 << 20) != nil)
        budget.release(slow)
        #expect(await eventually { budget.load.used == 0 })
    }
}
