import Glibc
import LinuxNetwork

/// The right of one agent to work in a run directory: plugin, rules and keeper have one master. Held until the process
/// ends or lets go of it.
public final class AgentTurn: Sendable {
    static let fileName = "agent.lock"

    private let file: FileDescriptor

    /// Waits until no other agent is at work.
    /// - Parameter wait: For how long, at most; `nil`: until the task is cancelled, since the other one ends when its
    ///   successor is seen to be ready.
    /// - Throws: When the time is over, or the directory cannot be used.
    public init(in folder: String, wait: Duration?) async throws {
        let path = "\(folder)/\(Self.fileName)"
        let raw = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard raw >= 0 else { throw AgentError(.file, "cannot open \(path)", cause: String(cString: strerror(errno))) }
        file = FileDescriptor(owning: raw)
        let deadline = wait.map { ContinuousClock.now + $0 }
        while true {
            if flock(raw, LOCK_EX | LOCK_NB) == 0 { return }
            guard errno == EWOULDBLOCK || errno == EINTR else {
                throw AgentError(.file, "cannot lock \(path)", cause: String(cString: strerror(errno)))
            }
            if let deadline, ContinuousClock.now >= deadline { break }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw AgentError(
            .file, "another agent is at work here", cause: "\(path) is locked",
            hint: "one agent a run directory; end the other one first, or wait for its end with --standby")
    }

    /// Makes the run directory, so that a turn can be waited for before there is an agent.
    public static func prepare(_ folder: String) throws { try AtomicFile.makeFolder(folder, mode: 0o711) }
}
