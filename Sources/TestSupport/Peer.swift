public import Foundation
import Glibc

/// A process that a test starts. It ends with the value, by SIGKILL, and with the test's own process in any case: signals
/// that a task has blocked are blocked in what it starts, so that SIGTERM may do nothing.
public final class Peer: @unchecked Sendable {
    // One test uses it, in one task at a time.
    private let process = Process()

    /// - Parameters:
    ///   - arguments: The program first, by its path or a name to be looked for.
    ///   - adding: Beside this process's environment.
    ///   - input: As ``Foundation/Process`` takes it; nothing to read unless given.
    public init(
        _ arguments: [String], adding: [String: String] = [:], input: Any = FileHandle.nullDevice,
        output: Any = FileHandle.nullDevice, errors: Any = FileHandle.nullDevice
    ) throws {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(adding) { $1 }
        process.standardInput = input
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        try Guardian.shared.get().watch(process.processIdentifier)
    }

    deinit { end() }

    public var pid: Int32 { process.processIdentifier }
    public var isRunning: Bool { process.isRunning }
    /// Once it has ended.
    public var status: Int32 { process.terminationStatus }

    public func signal(_ number: Int32) { if process.isRunning { kill(pid, number) } }

    /// Kills it, if it still runs, and waits for its end.
    public func end() {
        signal(SIGKILL)
        wait()
    }

    /// Waits until it ends by itself.
    public func wait() {
        process.waitUntilExit()
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
        let output = Pipe()
        let peer = try Peer(arguments, adding: adding, output: output, errors: output)
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        peer.wait()
        return (peer.status, text)
    }
}
