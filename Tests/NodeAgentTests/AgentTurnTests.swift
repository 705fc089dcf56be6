import Foundation
import Testing

@testable import NodeAgent

@Suite("Turns of agents")
struct AgentTurnTests {
    private final class Folder: Sendable {
        let path = FileManager.default.temporaryDirectory.appending(path: "apus-turn-\(UUID().uuidString)").path
        init() throws { try AgentTurn.prepare(path) }
        deinit { try? FileManager.default.removeItem(atPath: path) }  // In the machine's temporary files otherwise.
    }

    @Test func theSecondWaitsForTheFirstsEnd() async throws {
        let folder = try Folder()
        var first: AgentTurn? = try await AgentTurn(in: folder.path, wait: .zero)
        let second = Task { try await AgentTurn(in: folder.path, wait: nil) }
        await #expect(throws: AgentError.self) { _ = try await AgentTurn(in: folder.path, wait: .milliseconds(120)) }
        withExtendedLifetime(first) {}
        first = nil
        let turn = try await second.value
        // It is the second's now.
        await #expect(throws: AgentError.self) { _ = try await AgentTurn(in: folder.path, wait: .zero) }
        withExtendedLifetime(turn) {}
    }

    @Test func whoGivesUpSaysWhatToDo() async throws {
        let folder = try Folder()
        let first = try await AgentTurn(in: folder.path, wait: .zero)
        do {
            _ = try await AgentTurn(in: folder.path, wait: .zero)
            Issue.record("two agents at once")
        } catch let error as AgentError {
            #expect("\(error)".contains("--standby"))
            #expect("\(error)".contains("agent.lock is locked"))
        }
        withExtendedLifetime(first) {}
    }

    @Test func waitingEndsWithItsTask() async throws {
        let folder = try Folder()
        let first = try await AgentTurn(in: folder.path, wait: .zero)
        let second = Task { try await AgentTurn(in: folder.path, wait: nil) }
        second.cancel()
        await #expect(throws: CancellationError.self) { _ = try await second.value }
        withExtendedLifetime(first) {}
    }

    @Test func aFolderThatIsNotThereIsNamed() async throws {
        do {
            _ = try await AgentTurn(in: "/nonexistent", wait: .zero)
            Issue.record("a turn nowhere")
        } catch let error as AgentError {
            #expect("\(error)".contains("/nonexistent/agent.lock"))
        }
    }
}
