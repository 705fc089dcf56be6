import Foundation
import Glibc
import LinuxNetwork

/// A program that takes the place of this one's terminal until it ends.
public enum Foreground {
    /// Runs a command with our own input and outputs, in a namespace.
    /// - Returns: Its exit status, or 128 and the number of the signal that ended it.
    public static func run(_ command: [String], inNamespace namespace: String) throws -> Int32 {
        guard let program = command.first else { throw LocalClusterError(.command, "no command to run") }
        let arguments = [try Launcher.find(program)] + command.dropFirst()
        let pid = try Launcher.start(
            arguments, environment: Launcher.environment(), namespace: namespace,
            streams: .init(input: 0, output: 1, errors: 2))
        let child = ChildProcess(pid: pid, name: program)
        // It is in a session of its own, so a key at our terminal reaches us alone: pass it on.
        let interrupts = Interrupts()
        _ = try startThread(name: "signals") { while true { child.signal(interrupts.wait()) } }
        while true { if let status = child.wait(within: .seconds(3600)) { return status } }
    }
}
