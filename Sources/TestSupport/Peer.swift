public import Foundation
import Glibc

/// Why a process could not be started.
public struct NotStarted: Error, CustomStringConvertible {
    public let description: String
}

/// A process that a test starts. It ends with the value, by SIGKILL, and with the test's own process in any case.
///
/// Not Foundation's `Process`: that hands blocked signals on, so that SIGTERM may do nothing, and takes a process to run
/// for as long as anything that it started does.
public final class Peer: @unchecked Sendable {
    // One test uses it, in one task at a time.
    public let pid: pid_t
    private var ended: Int32?

    /// What it reads from or writes to.
    public enum Stream {
        case nothing
        /// The other end is the test's.
        case pipe(Pipe)
        case file(FileHandle)
    }

    /// - Parameters:
    ///   - arguments: The program first, by its path or a name to be looked for.
    ///   - adding: Beside this process's environment.
    public init(
        _ arguments: [String], adding: [String: String] = [:], input: Stream = .nothing, output: Stream = .nothing,
        errors: Stream = .nothing
    ) throws {
        let environment = ProcessInfo.processInfo.environment.merging(adding) { $1 }
        var ends: [FileHandle] = []
        func handle(_ stream: Stream, _ end: KeyPath<Pipe, FileHandle>) -> FileHandle {
            switch stream {
            case .nothing: return .nullDevice
            case .file(let file): return file
            case .pipe(let pipe):
                ends.append(pipe[keyPath: end])
                return pipe[keyPath: end]
            }
        }
        let streams = [
            handle(input, \.fileHandleForReading), handle(output, \.fileHandleForWriting),
            handle(errors, \.fileHandleForWriting),
        ]
        pid = try Self.spawn(
            arguments, environment.map { "\($0.key)=\($0.value)" }, streams.map(\.fileDescriptor))
        // Whoever reads sees the end when the process has ended. One pipe may be closed already, as that of both outputs.
        for end in ends { try? end.close() }
        try Guardian.shared.get().watch(pid)
    }

    deinit { end() }

    /// All signals are as a new program expects them, and it has the three descriptors alone.
    private static func spawn(
        _ arguments: [String], _ environment: [String], _ descriptors: [Int32]
    ) throws -> pid_t {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var (none, all) = (sigset_t(), sigset_t())
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (number, descriptor) in descriptors.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(number))
        }
        // What is closed meanwhile is no error; what is opened meanwhile is closed by its own flag, as nearly all is.
        for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
            if let descriptor = Int32(name), descriptor > 2 {
                posix_spawn_file_actions_addclose(&actions, descriptor)
            }
        }
        // The C strings outlive the call, and are freed after it.
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var variables: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
        defer { for text in words + variables { free(text) } }
        var pid = pid_t()
        let code = posix_spawnp(&pid, arguments[0], &actions, &attributes, &words, &variables)
        guard code == 0 else {
            throw NotStarted(description: "\(arguments[0]): \(String(cString: strerror(code)))")
        }
        return pid
    }

    public var isRunning: Bool {
        if ended == nil { reap(WNOHANG) }
        return ended == nil
    }

    /// Its exit code, or 128 and the signal that ended it; `nil` while it runs.
    public var status: Int32? { isRunning ? nil : ended }

    public func signal(_ number: Int32) { if isRunning { kill(pid, number) } }

    /// Kills it, if it still runs, and waits for its end.
    public func end() {
        signal(SIGKILL)
        wait()
    }

    /// Waits until it ends by itself.
    public func wait() { while ended == nil { reap(0) } }

    private func reap(_ options: Int32) {
        var raw: Int32 = 0
        let answer = waitpid(pid, &raw, options)
        // Interrupted, or it runs.
        guard answer == pid || answer < 0 && errno != EINTR else { return }
        ended = raw & 0x7f == 0 ? raw >> 8 & 0xff : 128 + (raw & 0x7f)
        // It is watched since it started, so there is a guardian.
        (try? Guardian.shared.get())?.forget(pid)
    }
}

/// A process that ends by itself, with all that it says.
public enum PeerRun {
    /// - Returns: Its status, and both its outputs as they came.
    public static func run(
        _ arguments: [String], adding: [String: String] = [:]
    ) throws -> (status: Int32, text: String) {
        let pipe = Pipe()
        let peer = try Peer(arguments, adding: adding, output: .pipe(pipe), errors: .pipe(pipe))
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        peer.wait()
        return (peer.status ?? -1, text)
    }
}
