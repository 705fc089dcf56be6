import CLinux
import Glibc
import LinuxNetwork

/// A program that the agent starts and that outlives it.
public struct ChildProgram: Hashable, Sendable {
    /// Names the pid file and the log file.
    public var name: String
    /// Path of the executable.
    public var executable: String
    /// Without the executable's own name in front.
    public var arguments: [String]
    /// The whole environment.
    public var environment: [String: String]
    /// Takes standard output and standard error, appended. `nil`: they go where the agent's go.
    public var logFile: String?
    /// A second one takes over from the first: that is how a running one is replaced when its file is another.
    public var takesOver: Bool

    public init(
        name: String, executable: String, arguments: [String] = [], environment: [String: String] = [:],
        logFile: String? = nil, takesOver: Bool = false
    ) {
        self.name = name
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.logFile = logFile
        self.takesOver = takesOver
    }
}

/// A process by its number and the time it was started, which together name one process and no later one.
struct ProcessIdentity: Hashable, Sendable {
    let pid: pid_t
    /// Clock ticks since the machine was started.
    let startTime: UInt64

    init(pid: pid_t, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    /// The process that has the number now; `nil` when there is none, or when it has ended and waits to be taken note of.
    init?(running pid: pid_t) {
        guard let bytes = try? AtomicFile.read("/proc/\(pid)/stat"),
            let (state, startTime) = Self.parse(String(decoding: bytes, as: UTF8.self)), state != "Z", state != "X"
        else { return nil }
        self.init(pid: pid, startTime: startTime)
    }

    /// State and start time of a line of /proc/<pid>/stat. The name in it may hold anything, so fields are counted
    /// from the last parenthesis.
    static func parse(_ line: String) -> (state: String, startTime: UInt64)? {
        guard let end = line.lastIndex(of: ")") else { return nil }
        let fields = line[line.index(after: end)...].split(separator: " ")
        // The state is field 3 of the line, the start time field 22.
        guard fields.count > 19, let startTime = UInt64(fields[19]) else { return nil }
        return (String(fields[0]), startTime)
    }

    // MARK: As a file

    var text: String { "\(pid) \(startTime)\n" }

    init?(text: String) {
        let parts = text.split(whereSeparator: \.isWhitespace)
        guard parts.count == 2, let pid = pid_t(parts[0]), pid > 1, let startTime = UInt64(parts[1]) else {
            return nil
        }
        self.init(pid: pid, startTime: startTime)
    }
}

/// A running process, held by a pidfd, which never comes to mean another one.
final class RunningProcess: Sendable {
    let identity: ProcessIdentity
    let descriptor: FileDescriptor

    /// - Returns: `nil` when the process is gone, or its number is another one's now.
    init?(_ identity: ProcessIdentity) {
        let raw = apus_pidfd_open(identity.pid)
        guard raw >= 0 else { return nil }
        let descriptor = FileDescriptor(owning: raw)
        // Looked at after the pidfd is there: now it cannot change under us.
        guard ProcessIdentity(running: identity.pid) == identity else { return nil }
        self.identity = identity
        self.descriptor = descriptor
    }

    /// Whether it runs another file than the one at `path` now.
    func runsOther(than path: String) -> Bool {
        var (own, installed) = (stat(), stat())
        // Followed by the kernel to the file itself, which may have been replaced or removed since.
        guard stat("/proc/\(identity.pid)/exe", &own) == 0, stat(path, &installed) == 0 else { return false }
        return own.st_dev != installed.st_dev || own.st_ino != installed.st_ino
    }

    func signal(_ number: CInt) { _ = apus_pidfd_send_signal(descriptor.raw, number) }

    /// Waits for the end.
    /// - Returns: Whether it came in time.
    func waitForEnd(milliseconds: CInt) -> Bool {
        var entry = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
        let ended = poll(&entry, 1, milliseconds) > 0
        // Only our own children can be waited for; of others somebody else takes note.
        if ended { waitpid(identity.pid, nil, WNOHANG) }
        return ended
    }
}

extension ChildProgram {
    /// Starts the program in a session of its own, with nothing open but standard input (empty), output and error.
    func start() throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        if let logFile {
            try AtomicFile.makeFolder(AtomicFile.split(logFile).folder, mode: 0o755)
            posix_spawn_file_actions_addopen(&actions, 1, logFile, O_WRONLY | O_CREAT | O_APPEND, 0o644)
            posix_spawn_file_actions_adddup2(&actions, 1, 2)
        }
        // Everything the agent opens is close-on-exec; this holds for what was handed to the agent itself, too.
        apus_spawn_close_from(&actions, 3)
        // Signals that the agent blocks or ignores are its own affair.
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        // POSIX_SPAWN_SETSID (0x80): a session of its own, so that no terminal's signal reaches it with ours.
        let flags = CInt(POSIX_SPAWN_SETSIGMASK) | CInt(POSIX_SPAWN_SETSIGDEF) | 0x80
        posix_spawnattr_setflags(&attributes, CShort(truncatingIfNeeded: flags))

        let words = ([executable] + arguments).map { strdup($0) } + [nil]
        let variables = environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in words + variables { free(pointer) } }
        var pid: pid_t = 0
        let result = posix_spawn(&pid, executable, &actions, &attributes, words, variables)
        guard result == 0 else {
            throw AgentError(
                .process, "cannot start \(name)", cause: "\(executable): \(String(cString: strerror(result)))")
        }
        return pid
    }
}
