import Glibc
import LinuxNetwork
import Logging
import Synchronization

/// Keeps programs running that are no part of the agent's life: they go on when it ends, and the next agent adopts
/// them by their pid files.
public final class Supervisor: Sendable {
    /// A program that ran this long before it ended is started again at once.
    private static let goodRun = Duration.seconds(30)

    /// How long a new version may take to take over, in nanoseconds.
    private static let takeoverTime: UInt64 = 30_000_000_000

    private let folder: String
    private let log: Logger

    /// - Parameter folder: Holds a pid file for each program, `<name>.pid`.
    public init(folder: String, log: Logger = Logger(label: "supervisor")) {
        self.folder = folder
        self.log = log
    }

    /// Keeps one program running until the task is cancelled; the program is left running then.
    public func keep(_ program: ChildProgram) async throws {
        try AtomicFile.makeFolder(folder, mode: 0o711)
        let thread = try EventLoopThread<Void>(name: "run-\(program.name)") { _ in }
        var backoff = Self.freshBackoff
        while !Task.isCancelled {
            let begun = ContinuousClock.now
            do {
                var process = try adopt(program) ?? start(program)
                if program.takesOver, process.runsOther(than: program.executable) {
                    process = try await replace(process, with: program, on: thread)
                }
                await Self.end(of: process, on: thread)
                if Task.isCancelled { break }
                log.warning(
                    "a program has ended; starting it again",
                    metadata: ["name": "\(program.name)", "pid": "\(process.identity.pid)"])
            } catch {
                log.error("\(AgentError(error))", metadata: ["name": "\(program.name)"])
            }
            if ContinuousClock.now - begun >= Self.goodRun { backoff = Self.freshBackoff }
            do { try await Task.sleep(for: backoff.next()) } catch { break }
        }
        thread.stop()
    }

    private static var freshBackoff: Backoff { Backoff(shortest: .milliseconds(100), longest: .seconds(10)) }

    /// Ends the programs: asks them to, waits, and insists. Blocks for at most the time given.
    public func end(_ names: [String], milliseconds: CInt = 10_000) {
        let running = names.compactMap { name in read(name).flatMap { RunningProcess($0) } }
        for process in running { process.signal(SIGTERM) }
        let deadline = MonotonicClock.now + UInt64(Swift.max(milliseconds, 0)) * 1_000_000
        for process in running {
            let now = MonotonicClock.now
            let left = now < deadline ? CInt((deadline - now) / 1_000_000) : 0
            if !process.waitForEnd(milliseconds: left) {
                process.signal(SIGKILL)
                _ = process.waitForEnd(milliseconds: 2_000)
            }
        }
        for name in names { unlink(path(name)) }
    }

    /// The process of a program that is running; `nil` when none is.
    public func pid(of name: String) -> pid_t? {
        read(name).flatMap { RunningProcess($0) }.map { $0.identity.pid }
    }

    // MARK: Inside

    private func path(_ name: String) -> String { "\(folder)/\(name).pid" }

    private func read(_ name: String) -> ProcessIdentity? {
        // A file that cannot be read is as good as none: the program is started, and says so if it runs already.
        guard let bytes = try? AtomicFile.read(path(name), limit: 256) else { return nil }
        return ProcessIdentity(text: String(decoding: bytes, as: UTF8.self))
    }

    private func adopt(_ program: ChildProgram) throws -> RunningProcess? {
        guard let process = read(program.name).flatMap({ RunningProcess($0) }) else { return nil }
        log.info(
            "a program runs already", metadata: ["name": "\(program.name)", "pid": "\(process.identity.pid)"])
        return process
    }

    /// Starts the program that takes over from the running one.
    /// - Returns: The new process, or the old one when it goes on.
    private func replace(
        _ old: RunningProcess, with program: ChildProgram, on thread: EventLoopThread<Void>
    ) async throws -> RunningProcess {
        let new: RunningProcess
        do {
            new = try start(program)
        } catch {
            return try keep(old, of: program, because: "\(AgentError(error))")
        }
        let succeeded = await thread.perform { _ in
            let deadline = MonotonicClock.now + Self.takeoverTime
            while MonotonicClock.now < deadline, !new.waitForEnd(milliseconds: 0) {
                if old.waitForEnd(milliseconds: 50) { return true }
            }
            return false
        }
        guard succeeded == true else {
            new.signal(SIGKILL)
            return try keep(old, of: program, because: "see its log")
        }
        log.info(
            "a program has been replaced by its new version",
            metadata: [
                "name": "\(program.name)", "old": "\(old.identity.pid)", "new": "\(new.identity.pid)",
            ])
        return new
    }

    private func keep(_ old: RunningProcess, of program: ChildProgram, because reason: String) throws -> RunningProcess
    {
        try AtomicFile.write(Array(old.identity.text.utf8), to: path(program.name), mode: 0o644)
        log.error(
            "the new version of a program did not take over; the old one goes on",
            metadata: ["name": "\(program.name)", "pid": "\(old.identity.pid)", "reason": "\(reason)"])
        return old
    }

    private func start(_ program: ChildProgram) throws -> RunningProcess {
        let pid = try program.start()
        guard let identity = ProcessIdentity(running: pid) else {
            waitpid(pid, nil, WNOHANG)
            throw AgentError(.process, "\(program.name) ended at once", hint: "see its log")
        }
        try AtomicFile.write(Array(identity.text.utf8), to: path(program.name), mode: 0o644)
        guard let process = RunningProcess(identity) else {
            waitpid(pid, nil, WNOHANG)
            throw AgentError(.process, "\(program.name) ended at once", hint: "see its log")
        }
        log.info("a program is started", metadata: ["name": "\(program.name)", "pid": "\(pid)"])
        return process
    }

    /// Waits for the end of a process, or of the task.
    private static func end(of process: RunningProcess, on thread: EventLoopThread<Void>) async {
        let cancelled = Atomic<Bool>(false)
        await withTaskCancellationHandler {
            _ = await thread.perform { _ in
                while !cancelled.load(ordering: .relaxed), !process.waitForEnd(milliseconds: 500) {}
            }
        } onCancel: {
            cancelled.store(true, ordering: .relaxed)
        }
    }
}
