import CLinux
import Glibc

/// Starting other programs.
public enum ProcessSpawn {
    /// What the new program gets as descriptors 0, 1 and 2; it gets no others.
    public struct Streams: Sendable {
        public var input: CInt
        public var output: CInt
        public var errors: CInt

        public init(input: CInt, output: CInt, errors: CInt) {
            self.input = input
            self.output = output
            self.errors = errors
        }
    }

    /// Starts a program in a session of its own, with no signal blocked or ignored.
    ///
    /// It takes the network namespace of the calling thread, so inside ``NetworkNamespace/run(_:)`` it starts in that one.
    /// - Parameters:
    ///   - arguments: the first is the program's path; PATH is not searched.
    ///   - environment: `NAME=value` each, and nothing else.
    /// - Returns: The child's process id. Whoever called must reap it.
    public static func start(
        _ arguments: [String], environment: [String], streams: Streams
    ) throws(SystemError) -> pid_t {
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var pid: pid_t = 0
        let result = apus_spawn(arguments[0], &argv, &envp, [streams.input, streams.output, streams.errors], &pid)
        guard result == 0 else { throw SystemError("start \(arguments[0])", code: result) }
        return pid
    }
}
