import CLinux
import CNI
import Glibc
import Testing

/// The built `apus-cni`, run as a runtime runs it.
struct PluginProcess {
    /// Which of the standard streams are closed at its start.
    enum Streams { case all, noStdout, noStdin }

    struct Outcome {
        let exitCode: Int32
        let stdout: [UInt8]
        let stderr: String

        var text: String { String(decoding: stdout, as: UTF8.self) }

        /// The one error object on stdout.
        var error: CNIError? {
            guard let json = try? JSONReader.read(stdout) else { return nil }
            return CNIError(json)
        }
    }

    struct Failure: Error { let message: String }

    private let pid: pid_t
    private let output: TemporaryFile
    private let log: TemporaryFile

    /// The products directory is that of the test program itself.
    static func path() throws -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        guard length > 0 else { throw Failure(message: "cannot find the test program") }
        let program = String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard let slash = program.lastIndex(of: "/") else { throw Failure(message: "no directory in \(program)") }
        let path = program[..<slash] + "/apus-cni"
        guard access(String(path), X_OK) == 0 else { throw Failure(message: "\(path) is not built") }
        return String(path)
    }

    /// Starts it. stdin is a file with `stdin` in it, or the descriptor given.
    init(_ variables: [String: String], stdin: [UInt8], descriptor: CInt? = nil, streams: Streams = .all) throws {
        let path = try Self.path()
        output = try TemporaryFile()
        log = try TemporaryFile()
        let input = try TemporaryFile(stdin)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if streams == .noStdin {
            posix_spawn_file_actions_addclose(&actions, 0)
        } else {
            posix_spawn_file_actions_adddup2(&actions, descriptor ?? input.descriptor, 0)
        }
        if streams == .noStdout {
            posix_spawn_file_actions_addclose(&actions, 1)
        } else {
            posix_spawn_file_actions_adddup2(&actions, output.descriptor, 1)
        }
        posix_spawn_file_actions_adddup2(&actions, log.descriptor, 2)
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup(path), nil]
        var environment = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { (arguments + environment).forEach { free($0) } }
        var pid: pid_t = 0
        let result = posix_spawn(&pid, path, &actions, nil, &arguments, &environment)
        guard result == 0 else { throw Failure(message: "cannot start \(path): errno \(result)") }
        self.pid = pid
    }

    /// Waits for the end, 30 s at most, which is more than any timeout in the plugin.
    func wait() throws -> Outcome {
        let pidfd = apus_pidfd_open(pid)
        guard pidfd >= 0 else { throw Failure(message: "pidfd_open failed: errno \(errno)") }
        defer { close(pidfd) }
        var entry = pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0)
        if poll(&entry, 1, 30_000) != 1 {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
            throw Failure(message: "apus-cni did not end")
        }
        var status: CInt = 0
        guard waitpid(pid, &status, 0) == pid else { throw Failure(message: "waitpid failed") }
        guard status & 0x7f == 0 else { throw Failure(message: "apus-cni was ended by signal \(status & 0x7f)") }
        return Outcome(
            exitCode: status >> 8 & 0xff, stdout: output.content(),
            stderr: String(decoding: log.content(), as: UTF8.self))
    }

    static func run(_ variables: [String: String], _ stdin: String) throws -> Outcome {
        try PluginProcess(variables, stdin: Array(stdin.utf8)).wait()
    }
}

/// A file without a name: takes any amount without anyone reading along.
final class TemporaryFile: Sendable {
    let descriptor: CInt

    init(_ content: [UInt8] = []) throws {
        var name = Array("/tmp/apus-cni-test-XXXXXX".utf8CString)
        descriptor = mkstemp(&name)
        guard descriptor >= 0 else { throw PluginProcess.Failure(message: "no temporary file: errno \(errno)") }
        unlink(name)
        _ = apus_fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        guard write(descriptor, content, content.count) == content.count, lseek(descriptor, 0, SEEK_SET) == 0 else {
            throw PluginProcess.Failure(message: "cannot fill a temporary file")
        }
    }

    deinit { close(descriptor) }

    func content() -> [UInt8] {
        let size = Int(lseek(descriptor, 0, SEEK_END))
        var bytes = [UInt8](repeating: 0, count: max(size, 0))
        let count = pread(descriptor, &bytes, bytes.count, 0)
        return Array(bytes.prefix(max(count, 0)))
    }
}
