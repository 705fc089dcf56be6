import Foundation
import Glibc
import LinuxNetwork

/// Starts programs, in a network namespace where wanted, without a helper program and without a mount namespace.
enum Launcher {
    /// - Parameters:
    ///   - arguments: the first is the program's path.
    ///   - namespace: path of the one it runs in; the caller's own when `nil`.
    /// - Returns: The child's process id. Whoever called must reap it.
    static func start(
        _ arguments: [String], environment: [String: String], namespace: String?, streams: ProcessSpawn.Streams
    ) throws -> pid_t {
        let environment = environment.map { "\($0.key)=\($0.value)" }
        guard let namespace else {
            return try ProcessSpawn.start(arguments, environment: environment, streams: streams)
        }
        return try NetworkNamespace(path: namespace).run { () throws in
            try ProcessSpawn.start(arguments, environment: environment, streams: streams)
        }
    }

    /// The environment that programs of a cluster get: ours, and no back-trace program that outlives a crash.
    static func environment(adding extra: [String: String] = [:]) -> [String: String] {
        ProcessInfo.processInfo.environment
            .merging(["SWIFT_BACKTRACE": "enable=no"]) { _, new in new }
            .merging(extra) { _, new in new }
    }

    /// The path of a program that is named without one.
    static func find(_ program: String) throws -> String {
        if program.contains("/") { return program }
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        for folder in path.split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        where access("\(folder)/\(program)", X_OK) == 0 {
            return "\(folder)/\(program)"
        }
        throw LocalClusterError(.environment, "the program \(program) is missing", hint: "make deps installs it")
    }
}
