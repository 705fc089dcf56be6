import Glibc
import LinuxNetwork
import Synchronization
import Testing

@testable import NodeAgent

@Suite("Threads for what blocks")
struct BlockingPoolTests {
    @Test("nobody waits behind a long piece of work while another thread is free")
    func whoeverIsFree() async throws {
        let pool = try BlockingPool(threads: 2)
        let (begun, release) = (ThreadSignal(), ThreadSignal())
        async let long: Bool = pool.run {
            begun.signal()
            return release.wait(seconds: 30)
        }
        _ = try await pool.run { begun.wait(seconds: 30) }
        // More than there are threads: with turns, every second one would wait.
        for number in 0..<8 { #expect(try await pool.run { number } == number) }
        release.signal()
        #expect(try await long)
        pool.stop()
    }

    @Test("what has not begun when it stops is refused, and so is what comes later")
    func stopped() async throws {
        let pool = try BlockingPool(threads: 1)
        let (begun, release) = (ThreadSignal(), ThreadSignal())
        let runs = Runs()
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try await pool.run {
                    begun.signal()
                    runs.note()
                    return release.wait(seconds: 30)
                }
            }
            #expect(begun.wait(seconds: 30))
            for _ in 0..<3 {
                group.addTask {
                    do {
                        try await pool.run { runs.note() }
                        return false
                    } catch let error as AgentError {
                        return error.code == .tryAgain
                    }
                }
            }
            // Stops when those three wait, or have yet to come: refused in either case.
            let stopping = try startThread(name: "stop") { pool.stop() }
            for _ in 0..<3 { #expect(try await group.next() == true) }
            release.signal()
            pthread_join(stopping, nil)
            #expect(try await group.next() == true)
        }
        #expect(runs.count == 1)
        await #expect(throws: AgentError.self) { try await pool.run {} }
    }

    @Test("what it is asked for before each piece of work can refuse it")
    func before() async throws {
        let pool = try BlockingPool(threads: 1) { throw AgentError(.tryAgain, "not now") }
        await #expect(throws: AgentError.self) { try await pool.run {} }
        pool.stop()
    }
}

private final class Runs: Sendable {
    private let runs = Atomic<Int>(0)

    var count: Int { runs.load(ordering: .relaxed) }

    func note() { runs.add(1, ordering: .relaxed) }
}
